//! Reads frozen matrices into fewer bits a few rows at a time, never entirely in float32.

use candle_core::{Device, Tensor, Var};
use half::bf16;
use vulpes_ops::{takes_blocks, to_blocks_no_grad};

use super::error::Error;
use super::source::Source;
use crate::adapter::BaseDtype;

/// The number of values held in float32 at a time, at least a row.
const AT_ONCE: usize = 1 << 20;

/// A parameter in that type; in blocks if its row length allows, else in float32.
pub(super) fn read(source: &Source<'_>, shape: &[usize], dtype: BaseDtype) -> Result<Var, Error> {
    let width: usize = shape.iter().skip(1).product();
    let n_rows = shape.first().copied().unwrap_or(1);
    let is_blocks = dtype == BaseDtype::Q8_0 && shape.len() == 2 && takes_blocks(width);
    if dtype == BaseDtype::Float32 || (dtype == BaseDtype::Q8_0 && !is_blocks) {
        let mut numbers = vec![0.0; n_rows * width];
        source.rows(0..n_rows, &mut numbers);
        return Ok(Var::from_vec(numbers, shape, &Device::Cpu)?);
    }
    let step = (AT_ONCE / width.max(1)).max(1);
    let (mut halves, mut bytes) = (Vec::<bf16>::new(), Vec::<u8>::new());
    for first in (0..n_rows).step_by(step) {
        let rows = first..n_rows.min(first + step);
        let mut numbers = vec![0.0; rows.len() * width];
        source.rows(rows.clone(), &mut numbers);
        if is_blocks {
            let some = Tensor::from_vec(numbers, (rows.len(), width), &Device::Cpu)?;
            bytes.extend(to_blocks_no_grad(&some)?.flatten_all()?.to_vec1::<u8>()?);
        } else {
            halves.reserve_exact(if first == 0 { n_rows * width } else { 0 });
            halves.extend(numbers.iter().map(|number| bf16::from_f32(*number)));
        }
    }
    Ok(match is_blocks {
        true => {
            let row = bytes.len() / n_rows.max(1);
            Var::from_vec(bytes, (n_rows, row), &Device::Cpu)?
        }
        false => Var::from_vec(halves, shape, &Device::Cpu)?,
    })
}
