//! Foundations of the CPU forms: float types, SIMD dispatch, matrix products, threads, memory.

pub(crate) mod bfloat16;
pub(crate) mod elementwise;
pub(crate) mod float;
mod functions;
pub(crate) mod lines;
pub(crate) mod narrow;
pub(crate) mod parallel;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod quantized;
pub(crate) mod read;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod team;
pub(crate) mod tiles;

pub(crate) use float::Float;

use candle_core::{DType, Device, Tensor};

/// Whether the CPU forms accept these tensors: all on the CPU, all of one dtype, float32 or float64. With float32, a
/// frozen matrix may be held in fewer bits ([`narrow`]).
pub(crate) fn fits(tensors: &[&Tensor]) -> bool {
    let Some(first) = tensors.first() else { return false };
    let is_narrow = |x: &Tensor| first.dtype() == DType::F32 && narrow::is_narrow(x);
    matches!(first.dtype(), DType::F32 | DType::F64)
        && !crate::threads::reference_only()
        && tensors
            .iter()
            .all(|x| matches!(x.device(), Device::Cpu) && (x.dtype() == first.dtype() || is_narrow(x)))
}

/// Runs `$call::<T>(…)`, a fast form, with `T` the dtype of `$tensor`.
macro_rules! by_dtype {
    ($tensor:expr, $call:ident ( $($arg:expr),* $(,)? )) => {{
        $crate::threads::count_fast_form();
        if $tensor.dtype() == candle_core::DType::F32 { $call::<f32>($($arg),*) } else { $call::<f64>($($arg),*) }
    }};
}
pub(crate) use by_dtype;
