//! Cross-entropy on the CPU: one pass forward, one pass backward.

use crate::kernel::Float;
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::read::{buffer, tensor, with, with2};
use crate::kernel::simd::{greatest, multiversion, reduce};
use crate::{CrossEntropyOptions, Loss, tape};
use candle_core::{Result, Tensor};

/// The minimum number of rows per thread.
const GRAIN: usize = 8;

/// The loss of each row, and each row's log-sum-exp; zeros for ignored rows.
pub(crate) fn forward<T: Float>(
    logits: &[T],
    width: usize,
    targets: &[i64],
    options: &CrossEntropyOptions,
    losses: &mut [f64],
    log_sums: &mut [T],
) {
    let buffers = (Rows::single(losses), Rows::single(log_sums));
    for_rows(targets.len(), GRAIN, buffers, |range, (losses, log_sums)| {
        let logits = &logits[range.start * width..range.end * width];
        forward_rows(logits, width, &targets[range], options, losses.values, log_sums.values);
    });
}

/// Replaces the logits by `scale` times their gradients.
pub(crate) fn backward<T: Float>(
    logits: &mut [T],
    width: usize,
    targets: &[i64],
    options: &CrossEntropyOptions,
    log_sums: &[T],
    scale: T,
) {
    for_rows(targets.len(), GRAIN, Rows::new(logits, width), |range, logits| {
        backward_rows(logits.values, width, &targets[range.clone()], options, &log_sums[range], scale);
    });
}

multiversion! {
    fn forward_rows = forward_body(
        logits: &[T], width: usize, targets: &[i64], options: &CrossEntropyOptions, losses: &mut [f64],
        log_sums: &mut [T],
    );
    fn backward_rows = backward_body(
        logits: &mut [T], width: usize, targets: &[i64], options: &CrossEntropyOptions, log_sums: &[T], scale: T,
    );
}

/// `Σ exp(x − max)` without storing the exponentials.
#[inline(always)]
fn sum_exp<T: Float, const FMA: bool>(x: &[T], max: T) -> T {
    reduce(x, |sum, x| sum + Float::exp::<FMA>(x - max))
}

#[inline(always)]
fn forward_body<T: Float, const FMA: bool>(
    logits: &[T],
    width: usize,
    targets: &[i64],
    options: &CrossEntropyOptions,
    losses: &mut [f64],
    log_sums: &mut [T],
) {
    let smoothing = options.label_smoothing;
    let rows = logits.chunks_exact(width).zip(targets).zip(losses.iter_mut().zip(log_sums));
    for ((x, &target), (loss, log_sum)) in rows {
        if target == options.ignore_index {
            (*loss, *log_sum) = (0.0, T::default());
            continue;
        }
        let max = greatest(x);
        let total = Float::ln(sum_exp::<T, FMA>(x, max));
        *log_sum = max + total;
        // In float64 from here: the loss is a small difference of larger values.
        let of_target = total.to_f64() - (x[target as usize] - max).to_f64();
        *loss = of_target;
        if smoothing > 0.0 {
            let mean = reduce(x, |sum, x| sum + (x - max)).to_f64() / width as f64;
            *loss = (1.0 - smoothing) * of_target + smoothing * (total.to_f64() - mean);
        }
        *loss *= options.weight(target);
    }
}

#[inline(always)]
fn backward_body<T: Float, const FMA: bool>(
    logits: &mut [T],
    width: usize,
    targets: &[i64],
    options: &CrossEntropyOptions,
    log_sums: &[T],
    scale: T,
) {
    let smoothing = options.label_smoothing;
    let everywhere = T::of(smoothing / width as f64);
    for ((x, &target), &log_sum) in logits.chunks_exact_mut(width).zip(targets).zip(log_sums) {
        if target == options.ignore_index {
            x.fill(T::default());
            continue;
        }
        let scale = T::of(options.weight(target)) * scale;
        for x in x.iter_mut() {
            *x = (Float::exp::<FMA>(*x - log_sum) - everywhere) * scale;
        }
        x[target as usize] -= T::of(1.0 - smoothing) * scale;
    }
}

/// Cross-entropy as a node of the tape.
pub(super) fn node<T: Float>(
    logits: &Tensor,
    targets: &[i64],
    options: &CrossEntropyOptions,
    count: usize,
) -> Result<Loss> {
    let (n, v) = logits.dims2()?;
    let (mut losses, mut log_sums) = (vec![0.0; n], buffer::<T>(n));
    with(logits, |logits: &[T]| {
        forward(logits, v, targets, options, &mut losses, &mut log_sums);
        Ok(())
    })?;
    let total = vec![T::of(losses.iter().sum())];
    let (kept, targets, options) = (logits.clone(), targets.to_vec(), options.clone());
    let sum = tape::record(&[logits], total, (), move |dloss| {
        let dx = with2(&kept, dloss, |logits: &[T], dloss: &[T]| {
            let mut dx = logits.to_vec();
            backward(&mut dx, v, &targets, &options, &log_sums, dloss[0]);
            Ok(dx)
        })?;
        Ok(vec![Some(tensor(dx, (n, v))?)])
    })?;
    Ok(Loss { sum, count })
}
