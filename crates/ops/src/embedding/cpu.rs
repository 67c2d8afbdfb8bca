//! Table lookup on the CPU: rows are copied, or added if there are several tables.

use crate::kernel::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, with};
use crate::kernel::simd::multiversion;
use crate::kernel::{bfloat16, narrow};
use crate::{sink, tape};
use candle_core::{Result, Tensor, bail};
use half::bf16;

multiversion! {
    fn add_row = add_row_body(out: &mut [T], x: &[T]);
}

#[inline(always)]
fn add_row_body<T: Float, const FMA: bool>(out: &mut [T], x: &[T]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// Adds the rows of `dy` to the looked-up rows of a bfloat16 table, each of which is rounded once.
fn add_rounded<T: Float>(
    table: &mut [bf16],
    write: Write,
    width: usize,
    ids: &[u32],
    dy: &[T],
) -> Result<()> {
    if write == Write::Store {
        table.fill(bf16::ZERO);
    }
    // Positions that look up the same row keep their order.
    let mut places: Vec<usize> = (0..ids.len()).collect();
    places.sort_by_key(|&place| ids[place]);
    let mut sum = buffer::<T>(width);
    for places in places.chunk_by(|&a, &b| ids[a] == ids[b]) {
        let row = &mut table[ids[places[0]] as usize * width..][..width];
        bfloat16::widen(row, &mut sum);
        for &place in places {
            add_row(&mut sum, &dy[place * width..][..width]);
        }
        bfloat16::round(&sum, row);
    }
    Ok(())
}

/// The sum of one row of each table for each position, as a node of the tape.
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
        let places = y.chunks_exact_mut(width.max(1)).zip(&ids);
        if narrow::is_narrow(table) {
            // Only the requested rows are widened.
            let mut wide = vec![T::default(); width];
            narrow::with_rows(table, |widen| {
                for (out, &id) in places {
                    let id = id as usize;
                    widen(id..id + 1, &mut wide);
                    if which == 0 { out.copy_from_slice(&wide) } else { add_row(out, &wide) }
                }
                Ok(())
            })?;
        } else {
            with(table, |table: &[T]| {
                for (out, &id) in places {
                    let row = &table[id as usize * width..][..width];
                    if which == 0 { out.copy_from_slice(row) } else { add_row(out, row) }
                }
                Ok(())
            })?;
        }
        picked.push((ids, (*table).clone()));
    }
    let inputs: Vec<&Tensor> = tables.iter().map(|(_, table)| *table).collect();
    tape::record(&inputs, y, shape, move |dy| {
        let scatter = |(ids, table): &(Vec<u32>, Tensor)| {
            let add_to_rows =
                |table: &mut [bf16], write| with(dy, |dy: &[T]| add_rounded(table, write, width, ids, dy));
            if let Some(added) = sink::rounded_rows(table, add_to_rows) {
                return added.map(|()| None);
            }
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
