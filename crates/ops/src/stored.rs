//! Intermediate values that a node stores: unchanged, or rounded to bfloat16 if products are.
//!
//! The forward pass continues with the stored values, so that the backward pass differentiates what was computed; the
//! rounding itself is differentiated as the identity.

use candle_core::{DType, Result, Tensor};
use half::bf16;

use crate::kernel::narrow::Matrix;
use crate::kernel::read::{buffer, with};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::kernel::{Float, bfloat16, by_dtype, fits};
use crate::tape;
use crate::threads::{Precision, precision_of};

/// Whether values of this dtype are stored rounded.
fn is_rounded(dtype: DType) -> bool {
    precision_of(dtype) == Precision::Bfloat16
}

/// Values stored for the backward pass.
pub(crate) enum Stored<T: Float> {
    Whole(Scratch<T>),
    Rounded(Scratch<bf16>),
}

impl<T: Float> Stored<T> {
    /// Whether [`Stored::new`] rounds.
    pub(crate) fn is_rounded() -> bool {
        is_rounded(T::DTYPE)
    }

    pub(crate) fn new(values: Scratch<T>) -> Self {
        if !is_rounded(T::DTYPE) {
            return Self::Whole(values);
        }
        let mut rounded = scratch(values.len());
        bfloat16::round(&values, &mut rounded);
        Self::Rounded(rounded)
    }

    /// The values as a product takes them.
    pub(crate) fn factor(&self) -> Matrix<'_, T> {
        match self {
            Self::Whole(values) => Matrix::Numbers(values),
            Self::Rounded(rounded) => Matrix::Halves(rounded),
        }
    }

    pub(crate) fn values(&self) -> Values<'_, T> {
        match self {
            Self::Whole(values) => Values::Borrowed(values),
            Self::Rounded(rounded) => {
                let mut values = scratch(rounded.len());
                bfloat16::widen(rounded, &mut values);
                Values::Owned(values)
            }
        }
    }
}

/// The form in which the fused sublayers store an intermediate value: x itself, or under
/// [`crate::threads::with_precision`] in bfloat16 the nearest bfloat16 values.
///
/// # Gradient
/// That of the result, as if nothing had been rounded.
///
/// # Errors
/// Returns an error if the device fails.
pub fn stored(x: &Tensor) -> Result<Tensor> {
    if !is_rounded(x.dtype()) {
        return Ok(x.clone());
    }
    if fits(&[x]) {
        return by_dtype!(x, node(x));
    }
    let rounded = x.detach().to_dtype(DType::BF16)?.to_dtype(x.dtype())?;
    // Exactly zero, with the gradient of x.
    (x - x.detach())? + rounded
}

fn node<T: Float>(x: &Tensor) -> Result<Tensor> {
    let value = with(x, |x: &[T]| {
        let mut rounded = scratch(x.len());
        bfloat16::round(x, &mut rounded);
        let mut value = buffer::<T>(x.len());
        bfloat16::widen(&rounded, &mut value);
        Ok(value)
    })?;
    tape::record(&[x], value, x.shape(), |dy| Ok(vec![Some(dy.clone())]))
}
