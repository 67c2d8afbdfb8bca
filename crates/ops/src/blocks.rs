//! Frozen matrices in 8-bit blocks, stored as byte tensors.
//!
//! A row of i values is i bytes and then i/32 scales: 32 values are `scale · byte` each, with signed bytes and a
//! float16 scale, as in GGUF's q8_0. Operations also take such a matrix as a projection's weight or a table; their sums
//! are float32.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::kernel::quantized::{BLOCK, Quant};
use crate::kernel::read::with;
use crate::kernel::{narrow, read};

/// Whether rows of this length can be stored in blocks.
pub fn takes_blocks(n_in: usize) -> bool {
    n_in > 0 && n_in.is_multiple_of(BLOCK)
}

/// The bytes of a matrix in blocks.
///
/// # Shape
/// `[o, i]` in float32 on the CPU → `[o, i + i/16]` bytes.
///
/// # Gradient
/// None: the result is not on the tape.
///
/// # Errors
/// Returns an error if [`takes_blocks`] is false or the tensor is not a matrix.
pub fn to_blocks_no_grad(matrix_oi: &Tensor) -> Result<Tensor> {
    let (o, i) = matrix_oi.dims2()?;
    if !takes_blocks(i) {
        bail!("blocks: rows of {i} values; expected a multiple of {BLOCK}");
    }
    let n_bytes = Quant::Q8_0.n_bytes();
    let width = narrow::row_bytes(i);
    let mut bytes = vec![0u8; o * width];
    let mut blocks = vec![0u8; i / BLOCK * n_bytes];
    with(matrix_oi, |matrix: &[f32]| {
        for (row, bytes) in matrix.chunks_exact(i).zip(bytes.chunks_exact_mut(width)) {
            Quant::Q8_0.quantize(row, &mut blocks);
            let (numbers, scales) = bytes.split_at_mut(i);
            let parts = numbers.chunks_exact_mut(BLOCK).zip(scales.chunks_exact_mut(2));
            for ((numbers, scale), block) in parts.zip(blocks.chunks_exact(n_bytes)) {
                scale.copy_from_slice(&block[..2]);
                numbers.copy_from_slice(&block[2..]);
            }
        }
        Ok(())
    })?;
    Tensor::from_vec(bytes, (o, width), &Device::Cpu)
}

/// The matrix behind the bytes of [`to_blocks_no_grad`], in the form that operations take.
///
/// # Shape
/// `[o, i + i/16]` bytes → `[o, i]`.
///
/// # Errors
/// Returns an error if the bytes are not such a matrix.
pub fn of_blocks(bytes: &Tensor) -> Result<Tensor> {
    let width = bytes.dims2()?.1;
    let n_block = width / (BLOCK + 2);
    if bytes.dtype() != DType::U8 || n_block * (BLOCK + 2) != width {
        bail!("blocks: expected bytes of complete blocks, not {bytes:?}");
    }
    bytes.narrow(1, 0, n_block * BLOCK)
}

/// A matrix in `dtype`, whatever its storage: bfloat16 and blocks are widened, exactly if `dtype` is float32.
///
/// # Gradient
/// None for a widened matrix.
///
/// # Errors
/// Returns an error if the device fails.
pub fn widened(matrix_oi: &Tensor, dtype: DType) -> Result<Tensor> {
    if matrix_oi.dtype() != DType::U8 {
        return matrix_oi.to_dtype(dtype);
    }
    narrow::with_all(matrix_oi, |numbers: &[f32]| read::tensor(numbers.to_vec(), matrix_oi.shape()))?
        .to_dtype(dtype)
}
