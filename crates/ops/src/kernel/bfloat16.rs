//! Values stored in bfloat16: conversions to and from it, and sums.

use half::bf16;

use super::Float;
use super::elementwise::block_sums;
use super::parallel::{Rows, for_rows};
use super::scratch::scratch;
use super::simd::multiversion;

/// The minimum number of elements per thread.
const GRAIN: usize = 16 * 1024;

/// The value of a bfloat16: the upper half of a float32.
#[inline(always)]
pub(crate) fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// [`widened`], in the kernels' float type.
#[inline(always)]
pub(crate) fn value<T: Float>(x: bf16) -> T {
    T::of(f64::from(widened(x)))
}

/// The nearest bfloat16, ties to even; NaN stays NaN.
#[inline(always)]
fn nearest<T: Float>(x: T) -> bf16 {
    let x = x.to_f64() as f32;
    let bits = x.to_bits();
    // If the lower half is more than a half, or a half below an odd value, this carries over into the upper one.
    let up = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    bf16::from_bits(((if x.is_nan() { bits | 0x0040_0000 } else { up }) >> 16) as u16)
}

/// The number itself, rounded to bfloat16.
#[inline(always)]
pub(crate) fn rounded<T: Float>(x: T) -> T {
    value(nearest(x))
}

/// `out ← x`, each rounded to the nearest.
pub(crate) fn round<T: Float>(x: &[T], out: &mut [bf16]) {
    for_rows(x.len(), GRAIN, Rows::single(out), |range, out| round_part(&x[range], out.values));
}

/// `out ← x`.
pub(crate) fn widen<T: Float>(x: &[bf16], out: &mut [T]) {
    for_rows(x.len(), GRAIN, Rows::single(out), |range, out| widen_part(&x[range], out.values));
}

/// `out ← out + x`, each sum rounded to the nearest.
pub(crate) fn add_to(out: &mut [bf16], x: &[bf16]) {
    for_rows(x.len(), GRAIN, Rows::single(out), |range, out| add_part::<f32>(out.values, &x[range]));
}

/// `Σ x²` in float64: blocks of a fixed size are summed in order, whatever the number of threads.
pub(crate) fn sum_of_squares(x: &[bf16]) -> f64 {
    let squares = block_sums(x.len(), |range| {
        let mut wide = scratch::<f32>(range.len());
        widen_part(&x[range], &mut wide);
        super::elementwise::squares_part(&wide)
    });
    squares.iter().sum()
}

multiversion! {
    fn round_part = round_body(x: &[T], out: &mut [bf16]);
    /// [`widen`] on this thread.
    fn widen_part = widen_body(x: &[bf16], out: &mut [T]);
    fn add_part = add_body(out: &mut [bf16], x: &[bf16]);
}

#[inline(always)]
fn round_body<T: Float, const FMA: bool>(x: &[T], out: &mut [bf16]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = nearest(x);
    }
}

#[inline(always)]
fn widen_body<T: Float, const FMA: bool>(x: &[bf16], out: &mut [T]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = value(x);
    }
}

#[inline(always)]
fn add_body<T: Float, const FMA: bool>(out: &mut [bf16], x: &[bf16]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = nearest(value::<T>(*out) + value::<T>(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_matches_the_bf16_type() {
        let x: Vec<f32> = (0..40_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))).collect();
        let mut rounded = vec![bf16::ZERO; x.len()];
        round(&x, &mut rounded);
        for (x, rounded) in x.iter().zip(&rounded) {
            let wanted = bf16::from_f32(*x);
            assert!(rounded.to_bits() == wanted.to_bits() || wanted.is_nan() && rounded.is_nan(), "{x}");
        }
        let mut wide = vec![0f32; x.len()];
        widen(&rounded, &mut wide);
        assert!(wide.iter().zip(&rounded).all(|(wide, x)| wide.to_bits() == x.to_f32().to_bits()));
        let finite: Vec<bf16> = (0..20_000).map(|i| bf16::from_f32(i as f32 / 7.0)).collect();
        let mut sum = finite.clone();
        add_to(&mut sum, &finite);
        assert!(sum.iter().zip(&finite).all(|(sum, x)| *sum == bf16::from_f32(2.0 * x.to_f32())));
        let squares: f64 = finite.iter().map(|x| x.to_f64() * x.to_f64()).sum();
        assert!((sum_of_squares(&finite) - squares).abs() < 1e-9 * squares);
    }
}
