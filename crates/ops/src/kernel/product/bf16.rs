//! bfloat16: how float32 is rounded to it, and what one step of a product of pairs is.

use crate::kernel::Float;

/// The nearest bfloat16, ties to even, in the upper half of the bits; a subnormal number is zero, a NaN stays one.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = flushed(x.to_bits());
    // Where the lower half is more than a half, or a half below an odd number, this carries over into the upper.
    let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let nan = bits | 0x0040_0000;
    (if x.is_nan() { nan } else { up }) & 0xffff_0000
}

/// A float32's bits, of zero with its sign if it is subnormal.
#[inline(always)]
fn flushed(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

/// Two numbers rounded to bfloat16, the first in the lower half.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> u32 {
    rounded(first) >> 16 | rounded(second)
}

/// `sum + a₁ b₁`, rounded, then `+ a₀ b₀`, rounded, with subnormal numbers taken and given as zeros: what the
/// instruction VDPBF16PS does to a lane.
#[inline(always)]
pub(super) fn step<const FMA: bool>(sum: f32, a: u32, b: u32) -> f32 {
    let numbers =
        |pair: u32| [f32::from_bits(flushed(pair << 16)), f32::from_bits(flushed(pair & 0xffff_0000))];
    let ([a0, a1], [b0, b1]) = (numbers(a), numbers(b));
    let flush = |x: f32| f32::from_bits(flushed(x.to_bits()));
    flush(a0.fma::<FMA>(b0, flush(a1.fma::<FMA>(b1, sum))))
}
