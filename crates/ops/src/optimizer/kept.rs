//! Optimizer state and gradients in memory: unrounded, or rounded to bfloat16.

use half::bf16;

use crate::kernel::{Float, bfloat16};

/// An element of a moment estimate or a gradient in memory.
pub(super) trait Kept<T: Float>: Copy {
    /// Whether it is rounded.
    const ROUNDED: bool;
    /// Its value.
    fn value(self) -> T;
    /// The stored form of a value; `noise` is any 16 bits.
    fn kept(value: T, noise: u32) -> Self;
}

impl<T: Float> Kept<T> for T {
    const ROUNDED: bool = false;
    #[inline(always)]
    fn value(self) -> T {
        self
    }
    #[inline(always)]
    fn kept(value: T, _: u32) -> T {
        value
    }
}

/// Stochastic rounding: up with a probability equal to the cut-off fraction of a step
/// ([Croci et al. 2022](https://doi.org/10.1098/rsos.211631), sec. 2), so that the mean is the value itself.
///
/// With rounding to the nearest, a second moment would not move: β₂ = 0.999 changes it by a thousandth per step, and
/// bfloat16's spacing is a 128th to a 256th of it.
impl<T: Float> Kept<T> for bf16 {
    const ROUNDED: bool = true;
    #[inline(always)]
    fn value(self) -> T {
        bfloat16::value(self)
    }
    #[inline(always)]
    fn kept(value: T, noise: u32) -> bf16 {
        let bits = (value.to_f64() as f32).to_bits();
        let size = bits & 0x7fff_ffff;
        // An infinity or a NaN must not be rounded up, nor a NaN become an infinity.
        let up = if size < 0x7f80_0000 { noise & 0xffff } else { 0 };
        let nan = if size > 0x7f80_0000 { 0x0040_0000 } else { 0 };
        bf16::from_bits(((bits.wrapping_add(up) | nan) >> 16) as u16)
    }
}

/// The noise of element `index` under `key`: 32 bits, each of which depends on all bits of both, by two rounds of the
/// 32-bit mixing function of [Wellons 2018](https://nullprogram.com/blog/2018/07/31/).
#[inline(always)]
pub(super) fn noise(key: u64, index: u64) -> u32 {
    let (low, high) = (key as u32, (key >> 32) as u32);
    let first = mixed((index as u32).wrapping_add(low));
    mixed(first ^ high ^ ((index >> 32) as u32).wrapping_mul(0x9e37_79b9))
}

#[inline(always)]
fn mixed(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
