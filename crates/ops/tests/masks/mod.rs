//! The masks that attention is tested with: every rule alone or with others, and none.

use vulpes_ops::Mask;

/// For `b` rows of `s` keys.
pub(crate) fn masks(b: usize, s: usize) -> [Mask; 5] {
    let real: Vec<u8> = (0..b * s).map(|i| u8::from(i % 5 != 3)).collect();
    let segments: Vec<u32> = (0..b * s).map(|i| (i % s / 4) as u32).collect();
    [
        Mask::causal(),
        Mask::full(),
        Mask::causal().window(3),
        Mask::full().padding(b, s, real.clone().into()),
        Mask::causal().window(5).padding(b, s, real.into()).segments(b, s, segments.into()),
    ]
}
