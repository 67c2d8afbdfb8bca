//! Embedding table lookup.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits, narrow};
use crate::threads::{self, count_fast_form};
use candle_core::{DType, Result, Tensor, bail};
use cpu::node;

/// Row `id` of the table for each id.
///
/// # Shape
/// ids u32 [..], weight [v, d] → [.., d].
///
/// # Gradient
/// A row gets the sum over its uses; an unused row gets zero.
///
/// # Errors
/// Returns an error if an id is outside the table.
pub fn embedding(ids: &Tensor, weight_vd: &Tensor) -> Result<Tensor> {
    embedding_sum(&[(ids, weight_vd)])
}

/// The sum of one row of each of several tables for each position: tokens, positions, types. Frozen tables may be held
/// in fewer bits; the sum is in float32 then.
///
/// # Shape
/// The first ids u32 `[..]`, the others the same or broadcast to it (`[t]` to `[b, t]`); tables `[rows, d]` → `[.., d]`.
///
/// # Gradient
/// As [`embedding()`], for each table.
///
/// # Errors
/// Returns an error if an id is outside its table, or the shapes don't match.
pub fn embedding_sum(tables: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let Some((first, weight)) = tables.first() else { bail!("embedding: no table") };
    let mut shape = first.dims().to_vec();
    let width = weight.dims2()?.1;
    let mut broadcast = Vec::with_capacity(tables.len());
    for (ids, weight) in tables {
        if weight.dims2()?.1 != width {
            bail!("embedding: a table of {:?} with one of width {width}", weight.dims());
        }
        broadcast.push((ids.broadcast_as(first.shape())?, *weight));
    }
    shape.push(width);
    let of_one_kind = tables.iter().map(|(_, weight)| *weight).filter(|weight| !narrow::is_narrow(weight));
    let of_one_kind: Vec<&Tensor> = of_one_kind.collect();
    let on_cpu = tables.iter().all(|(_, weight)| weight.device().is_cpu()) && !threads::reference_only();
    if of_one_kind.is_empty() && on_cpu {
        count_fast_form();
        node::<f32>(&broadcast, shape)
    } else if fits(&of_one_kind)
        && (of_one_kind.len() == tables.len() || of_one_kind[0].dtype() == DType::F32)
    {
        by_dtype!(of_one_kind[0], node(&broadcast, shape))
    } else {
        reference::embedding_sum(tables)
    }
}
