//! A parameter's values as the decoder reads them.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Result, Storage, Tensor, bail};
use vulpes_ops::Linear;
use vulpes_ops::decode::{Packed, Side, Weight};

use crate::mapped::Mapped;

/// The values of a parameter on the CPU.
pub(crate) enum Weights<'m> {
    /// Those of a float32 tensor, locked for reading.
    Locked { guard: Box<dyn Deref<Target = Storage> + Sync + 'm>, range: Range<usize> },
    /// Float32 in a mapped file.
    Mapped(Mapped),
    /// Owned float32: what a file holds otherwise, and matrices that no smaller type can hold.
    Owned(Vec<f32>),
    /// A matrix in a smaller type.
    Packed(Packed),
}

impl<'m> Weights<'m> {
    /// # Errors
    /// Returns an error if the tensor is not contiguous float32 on the CPU.
    pub(super) fn of(tensor: &'m Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        match (&*guard, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => {
                Ok(Self::Locked { guard: Box::new(guard), range: start..end })
            }
            _ => bail!("a decoder reads contiguous float32 on the CPU, not {tensor:?}"),
        }
    }

    /// Whether [`Weights::of`] accepts such a tensor.
    pub(super) fn takes(tensor: &Tensor) -> bool {
        tensor.dtype() == DType::F32 && tensor.device().is_cpu() && tensor.is_contiguous()
    }

    /// The values of a parameter in float32, as vectors always are.
    pub(super) fn get(&self) -> &[f32] {
        match self {
            Self::Locked { guard, range } => match &***guard {
                Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[range.clone()],
                // `of` takes no other.
                _ => &[],
            },
            Self::Mapped(numbers) => numbers.get(),
            Self::Owned(numbers) => numbers,
            Self::Packed(_) => &[],
        }
    }

    /// A row of a table.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Packed(packed) => packed.row(row, out),
            _ => out.copy_from_slice(&self.get()[row * out.len()..(row + 1) * out.len()]),
        }
    }

    /// The matrix of a product.
    pub(super) fn matrix(&self) -> Weight<'_> {
        match self {
            Self::Packed(packed) => Weight::Packed(packed),
            _ => Weight::Floats(self.get()),
        }
    }
}

/// A projection in the form that a product takes.
pub(super) fn side<'a>(Linear { weight, bias, adapter: _ }: &'a Linear<Weights<'_>>) -> Side<'a> {
    Side { weight: weight.matrix(), bias: bias.as_ref().map(Weights::get) }
}
