//! The float types that kernels are written for.
//!
//! Functions that don't vectorize come from the crate `libm`: the systems' own functions differ in their last bits.

use super::functions::{erf_f32, exp_f32, fma_by_f64};
use super::pool::Pooled;
use candle_core::WithDType;
use std::ops::Neg;

/// float32 or float64.
///
/// `FMA` says whether the code is compiled for a machine with fused multiply-add. Without one, float32 goes through
/// float64, with the same bits as the instruction but far slower.
pub(crate) trait Float: WithDType + Neg<Output = Self> + Pooled {
    const NEG_INFINITY: Self;
    const INFINITY: Self;

    fn of(x: f64) -> Self;
    /// `self · b + c`, rounded once.
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self;
    /// `e^self`; float32 by a polynomial that vectorizes.
    fn exp<const FMA: bool>(self) -> Self;
    fn ln(self) -> Self;
    fn is_nan(self) -> bool;
    fn sqrt(self) -> Self;
    /// `2/√π ∫₀ˣ e^(−t²) dt`; float32 by polynomials that vectorize.
    fn erf<const FMA: bool>(self) -> Self;
}

impl Float for f64 {
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    const INFINITY: Self = f64::INFINITY;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        libm::exp(self)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        libm::log(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn erf<const FMA: bool>(self) -> Self {
        candle_core::cpu::erf::erf_f64(self)
    }
}

impl Float for f32 {
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    const INFINITY: Self = f32::INFINITY;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn fma<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { self.mul_add(b, c) } else { fma_by_f64(self, b, c) }
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
        libm::logf(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn erf<const FMA: bool>(self) -> Self {
        erf_f32::<FMA>(self)
    }
}
