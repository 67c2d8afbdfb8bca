//! Cross-entropy of logits against targets.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use crate::{CrossEntropyOptions, Loss};
use candle_core::{Result, Tensor};
use cpu::node;

/// `Σ_n w[target] ((1 − ε)(−log p_n[target]) + ε/V Σ_v (−log p_n[v]))` with `p_n = softmax(logits_n)`, over the rows
/// whose target is not `ignore_index`; ε is the label smoothing, as in PyTorch, and w the weights, 1 by default.
///
/// # Shape
/// logits [n, v], n targets → a scalar and a count.
///
/// # Errors
/// Returns an error if a target is neither in the vocabulary nor ignored, or the numbers of targets and rows differ.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use vulpes_ops::{CrossEntropyOptions, cross_entropy};
/// let logits = Tensor::new(&[[0f64, 0.0], [3.0, 4.0]], &Device::Cpu)?;
/// let loss = cross_entropy(&logits, &[1, -100], &CrossEntropyOptions::default())?;
/// assert_eq!(loss.count, 1);
/// assert!((loss.sum.to_scalar::<f64>()? - 2f64.ln()).abs() < 1e-12);
/// # candle_core::Result::Ok(())
/// ```
pub fn cross_entropy(logits_nv: &Tensor, targets: &[i64], options: &CrossEntropyOptions) -> Result<Loss> {
    let (n, v) = logits_nv.dims2()?;
    if fits(&[logits_nv]) && n * v > 0 {
        let count = options.count("cross_entropy", n, v, targets)?;
        by_dtype!(logits_nv, node(logits_nv, targets, options, count))
    } else {
        reference::cross_entropy(logits_nv, targets, options)
    }
}
