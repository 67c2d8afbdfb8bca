//! Table lookup on the CPU: rows are copied, or added where several tables speak of one place.

use crate::kernel::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, with};
use crate::kernel::simd::multiversion;
use crate::{sink, tape};
use candle_core::{Result, Tensor, bail};

multiversion! {
    fn add_row = add_row_body(out: &mut [T], x: &[T]);
}

#[inline(always)]
fn add_row_body<T: Float, const FMA: bool>(out: &mut [T], x: &[T]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// The sum of one row of each table for each place, as a node of the tape.
pub(super) fn node<T: Float>(tables: &[(Tensor, &Tensor)], shape: Vec<usize>) -> Result<Tensor> {
    let width = shape.last().copied().unwrap_or(0);
    let mut y = buffer::<T>(shape.iter().product());
    let mut picked = Vec::with_capacity(tables.len());
    for (which, (ids, table)) in tables.iter().enumerate() {
        let rows = table.dim(0)?;
        let ids: Vec<u32> = ids.flatten_all()?.to_vec1()?;
        if let Some(beyond) = ids.iter().find(|&&id| id as usize >= rows) {
            bail!("embedding: id {beyond}, but table {which} has {rows} rows");
        }
        with(table, |table: &[T]| {
            for (out, &id) in y.chunks_exact_mut(width.max(1)).zip(&ids) {
                let row = &table[id as usize * width..][..width];
                if which == 0 { out.copy_from_slice(row) } else { add_row(out, row) }
            }
            Ok(())
        })?;
        picked.push((ids, (*table).clone()));
    }
    let inputs: Vec<&Tensor> = tables.iter().map(|(_, table)| *table).collect();
    tape::record(&inputs, y, shape, move |dy| {
        let scatter = |(ids, table): &(Vec<u32>, Tensor)| {
            sink::parameter::<T>(table, |out, write| {
                if write == Write::Store {
                    out.fill(T::default());
                }
                with(dy, |dy: &[T]| {
                    for (dy, &id) in dy.chunks_exact(width.max(1)).zip(ids) {
                        add_row(&mut out[id as usize * width..][..width], dy);
                    }
                    Ok(())
                })
            })
        };
        picked.iter().map(scatter).collect()
    })
}
