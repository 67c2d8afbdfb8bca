//! Table lookup.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor, bail};
use cpu::node;

/// Row `id` of the table for each id.
///
/// # Shape
/// ids u32 [..], weight [v, d] → [.., d].
///
/// # Gradient
/// A row gets the sum over its uses; a row without a use gets zero.
///
/// # Errors
/// Where an id is outside the table.
pub fn embedding(ids: &Tensor, weight_vd: &Tensor) -> Result<Tensor> {
    embedding_sum(&[(ids, weight_vd)])
}

/// The sum of one row of each of several tables for each place: tokens, positions, types.
///
/// # Shape
/// The first ids u32 `[..]`, the others the same or broadcast to it (`[t]` to `[b, t]`); tables `[rows, d]` → `[.., d]`.
///
/// # Gradient
/// As of [`embedding()`], to each table.
///
/// # Errors
/// Where an id is outside its table, or shapes don't fit together.
pub fn embedding_sum(tables: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let Some((first, weight)) = tables.first() else { bail!("embedding: no table") };
    let mut shape = first.dims().to_vec();
    let width = weight.dims2()?.1;
    let mut broadcast = Vec::with_capacity(tables.len());
    for (ids, weight) in tables {
        if weight.dims2()?.1 != width {
            bail!("embedding: a table of {:?} beside one of width {width}", weight.dims());
        }
        broadcast.push((ids.broadcast_as(first.shape())?, *weight));
    }
    shape.push(width);
    if fits(&tables.iter().map(|(_, weight)| *weight).collect::<Vec<_>>()) {
        by_dtype!(weight, node(&broadcast, shape))
    } else {
        reference::embedding_sum(tables)
    }
}
