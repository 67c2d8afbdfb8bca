//! The running mean of a parameter, in place.

use candle_core::{Result, Tensor};

use super::{check, reference};
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::read::{with, with_mut};
use crate::kernel::simd::multiversion;
use crate::kernel::{Float, by_dtype, fits};

/// The minimum number of elements per thread.
const GRAIN: usize = 16 * 1024;

/// One step of a running mean: `mean ← mean + share (x − mean)`.
///
/// # Gradient
/// None: the mean is overwritten, so never call it between a forward pass and its backward pass.
///
/// # Errors
/// Returns an error if the two tensors differ in shape or dtype.
pub fn average(mean: &Tensor, x: &Tensor, share: f64) -> Result<()> {
    check("average", mean, &[("x", x)], None)?;
    if mean.elem_count() == 0 {
        return Ok(());
    }
    if fits(&[mean, x]) && mean.is_contiguous() {
        by_dtype!(mean, on_cpu(mean, x, share))
    } else {
        reference::average(mean, x, share)
    }
}

fn on_cpu<T: Float>(mean: &Tensor, x: &Tensor, share: f64) -> Result<()> {
    with(x, |x: &[T]| {
        with_mut(mean, |mean: &mut [T]| {
            for_rows(x.len(), GRAIN, Rows::single(mean), |range, mean| {
                average_part(mean.values, &x[range], T::of(share));
            });
            Ok(())
        })
    })
}

multiversion! {
    fn average_part = average_body(mean: &mut [T], x: &[T], share: T);
}

#[inline(always)]
fn average_body<T: Float, const FMA: bool>(mean: &mut [T], x: &[T], share: T) {
    for (mean, &x) in mean.iter_mut().zip(x) {
        *mean += share * (x - *mean);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::threads::{with_kernel_threads, with_reference};

    /// Checked by hand, against the reference, and on any number of threads.
    #[test]
    fn each_step_moves_the_mean_by_its_share() {
        let n = 3 * GRAIN + 7;
        let x = Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap();
        let run = || {
            let mean = Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
            average(&mean, &x, 0.25).unwrap();
            average(&mean, &x, 0.5).unwrap();
            mean.to_vec1::<f32>().unwrap()
        };
        let one = with_kernel_threads(1, run);
        assert_eq!(one[..3], [0.0, 0.625, 1.25]);
        assert_eq!(one, with_kernel_threads(3, run));
        let plain = with_reference(run);
        assert!(one.iter().zip(&plain).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()));
        assert!(average(&x, &x.narrow(0, 0, 3).unwrap(), 0.5).is_err());
    }
}
