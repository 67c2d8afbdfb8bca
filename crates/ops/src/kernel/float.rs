//! The two numbers that kernels are written for, and the functions of them that vectorize.

use super::scratch::Shelf;
use candle_core::WithDType;
use std::ops::Neg;

/// float32 or float64.
///
/// `FMA` says whether the code is compiled for a machine with fused multiply-add: without one, `mul_add` would be a
/// slow library call, so a multiplication and an addition stand for it.
pub(crate) trait Float: WithDType + Neg<Output = Self> + Default {
    const NEG_INFINITY: Self;
    const INFINITY: Self;

    /// Where used buffers wait.
    fn shelf() -> &'static Shelf<Self>;
    fn of(x: f64) -> Self;
    /// `self · b + c`.
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self;
    /// `e^self`; float32 by a polynomial that vectorizes.
    fn exp<const FMA: bool>(self) -> Self;
    fn ln(self) -> Self;
    fn is_nan(self) -> bool;
    fn sqrt(self) -> Self;
    fn erf(self) -> Self;
}

impl Float for f64 {
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const INFINITY: Self = f64::INFINITY;

    fn shelf() -> &'static Shelf<Self> {
        static SHELF: Shelf<f64> = Shelf::new();
        &SHELF
    }

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { self.mul_add(b, c) } else { self * b + c }
    }
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }
}

impl Float for f32 {
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const INFINITY: Self = f32::INFINITY;

    fn shelf() -> &'static Shelf<Self> {
        static SHELF: Shelf<f32> = Shelf::new();
        &SHELF
    }

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { self.mul_add(b, c) } else { self * b + c }
    }
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        exp_f32::<FMA>(self)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        candle_core::cpu::erf::erf_f32(self)
    }
}

/// `e^x = 2^n e^r` with `n = round(x / ln 2)` and `|r| ≤ ln 2 / 2`, `e^r` by a polynomial of degree 7.
///
/// Nothing but arithmetic and selections, so that LLVM makes vectors of it. The test below measures its error.
#[inline(always)]
fn exp_f32<const FMA: bool>(x: f32) -> f32 {
    // Beyond these the result is infinite or zero; a NaN passes both comparisons and stays.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    // Adding 1.5 · 2^23 rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let rounded = x.fma::<FMA>(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    let r = (-n).fma::<FMA>(0.693_359_4, x);
    let r = (-n).fma::<FMA>(-2.121_944_4e-4, r);
    // The minimax polynomial of Cephes' expf (Moshier).
    let p = 1.987_569_2e-4_f32
        .fma::<FMA>(r, 1.398_199_9e-3)
        .fma::<FMA>(r, 8.333_452e-3)
        .fma::<FMA>(r, 4.166_579_6e-2)
        .fma::<FMA>(r, 1.666_666_6e-1)
        .fma::<FMA>(r, 0.5)
        .fma::<FMA>(r * r, r);
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    // 2^n in two factors: for subnormal results neither factor may itself be subnormal.
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    (p + 1.0) * power(half) * power(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance in units of the last place of the true value.
    fn ulps(found: f32, exact: f64) -> f64 {
        let near = exact as f32;
        let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
        (f64::from(found) - exact).abs() / ulp
    }

    fn largest_error<const FMA: bool>() -> f64 {
        // Every 61st float of both signs, over the whole range in which the result is neither 0 nor infinite.
        let mut worst = 0f64;
        for bits in (0..=104f32.to_bits()).step_by(61) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                if x < 88.722_83 && x > -87.336_5 {
                    worst = worst.max(ulps(exp_f32::<FMA>(x), f64::from(x).exp()));
                }
            }
        }
        worst
    }

    #[test]
    fn exp_is_within_two_ulp_over_the_whole_range() {
        let (fused, plain) = (largest_error::<true>(), largest_error::<false>());
        println!("exp f32: largest error {fused:.3} ulp with fused multiply-add, {plain:.3} without");
        assert!(fused < 1.5 && plain < 2.0, "{fused} {plain}");
    }

    #[test]
    fn exp_at_the_ends() {
        for exp in [exp_f32::<true>, exp_f32::<false>] {
            assert_eq!(exp(0.0), 1.0);
            assert_eq!(exp(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp(-1000.0), 0.0);
            assert_eq!(exp(f32::INFINITY), f32::INFINITY);
            assert_eq!(exp(88.73), f32::INFINITY);
            assert!(exp(f32::NAN).is_nan());
            // Subnormal results are right to half of their own last place and one.
            for x in [-88.0f32, -95.0, -100.0, -103.0] {
                let exact = f64::from(x).exp();
                assert!((f64::from(exp(x)) - exact).abs() < 1.5 * f64::from(f32::from_bits(1)), "{x}");
            }
        }
    }
}
