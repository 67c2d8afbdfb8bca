//! Rounding of float32 to bfloat16, and one step of a product of bfloat16 pairs.

use crate::kernel::Float;

/// The nearest bfloat16, ties to even, in the upper half of the bits; subnormals become zero, a NaN stays NaN.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = flushed(x.to_bits());
    // Carries into the upper half if the lower is above one half, or exactly one half under an odd value.
    let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let nan = bits | 0x0040_0000;
    (if x.is_nan() { nan } else { up }) & 0xffff_0000
}

/// A float32's bits; a subnormal becomes zero of the same sign.
#[inline(always)]
fn flushed(bits: u32) -> u32 {
    if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
}

/// Two values rounded to bfloat16, the first in the lower half.
#[inline(always)]
pub(super) fn pair(first: f32, second: f32) -> u32 {
    rounded(first) >> 16 | rounded(second)
}

/// Two bfloat16 values; [`step`] treats subnormals as zero.
#[inline(always)]
pub(super) fn pair_of_halves(first: u16, second: u16) -> u32 {
    u32::from(first) | u32::from(second) << 16
}

/// A bfloat16 as float32.
#[inline(always)]
pub(super) fn of_half(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// `sum + a₁ b₁`, rounded, then `+ a₀ b₀`, rounded, with subnormal inputs and results flushed to zero: what the
/// instruction VDPBF16PS does per lane.
#[inline(always)]
pub(super) fn step<const FMA: bool>(sum: f32, a: u32, b: u32) -> f32 {
    let numbers =
        |pair: u32| [f32::from_bits(flushed(pair << 16)), f32::from_bits(flushed(pair & 0xffff_0000))];
    let ([a0, a1], [b0, b1]) = (numbers(a), numbers(b));
    let flush = |x: f32| f32::from_bits(flushed(x.to_bits()));
    flush(a0.fma::<FMA>(b0, flush(a1.fma::<FMA>(b1, sum))))
}
