//! A parameter's numbers as the decoder reads them.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Result, Storage, Tensor, bail};
use vulpes_ops::Linear;
use vulpes_ops::decode::matvec_no_grad;

/// The numbers of a float32 parameter on the CPU, locked for reading.
pub(super) struct Weights<'m> {
    guard: Box<dyn Deref<Target = Storage> + Sync + 'm>,
    range: Range<usize>,
}

impl<'m> Weights<'m> {
    /// # Errors
    /// Returns an error if the tensor is not float32 on the CPU, or not in one piece.
    pub(super) fn of(tensor: &'m Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        match (&*guard, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => {
                Ok(Self { guard: Box::new(guard), range: start..end })
            }
            _ => bail!("a decoder reads float32 on the CPU in one piece, not {tensor:?}"),
        }
    }

    /// Whether [`Weights::of`] takes such a tensor.
    pub(super) fn takes(tensor: &Tensor) -> bool {
        tensor.dtype() == DType::F32 && tensor.device().is_cpu() && tensor.is_contiguous()
    }

    pub(super) fn get(&self) -> &[f32] {
        match &**self.guard {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.range.clone()],
            // `of` takes no other.
            _ => &[],
        }
    }
}

/// Rows `first..first + out.len()` of matrices that stand one below the other, each from its own first row on, times x.
pub(super) fn rows_times(matrices: &[(&Linear<Weights>, usize)], x: &[f32], first: usize, out: &mut [f32]) {
    let n_in = x.len();
    for (Linear { weight, bias }, offset) in matrices {
        let n_out = weight.range.len() / n_in;
        let from = first.max(*offset);
        let to = (first + out.len()).min(offset + n_out);
        if from < to {
            let rows = from - offset..to - offset;
            let weight = &weight.get()[rows.start * n_in..rows.end * n_in];
            let bias = bias.as_ref().map(|bias| &bias.get()[rows.clone()]);
            matvec_no_grad(weight, x, bias, &mut out[from - first..to - first]);
        }
    }
}
