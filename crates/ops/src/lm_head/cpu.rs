//! The vocabulary head on the CPU, in chunks of rows.

use crate::cross_entropy::cpu::{backward, forward};
use crate::kernel::product::{View, Write, project};
use crate::kernel::read::{buffer, tensor, with, with_option, with2};
use crate::kernel::scratch::scratch;
use crate::kernel::{Float, elementwise};
use crate::{CrossEntropyOptions, Loss, linear, sink, tape};
use candle_core::{Result, Tensor};
use std::ops::Range;

/// Logits held at one time, at most, unless a single row has more.
const HELD: usize = 16 << 20;
/// Logits that are few enough to be kept for the backward pass; above, they are computed again.
const KEPT: usize = 4 << 20;

/// Equal chunks of rows of which each has at most [`HELD`] logits.
fn chunks(n: usize, v: usize) -> impl Iterator<Item = Range<usize>> {
    let count = (n * v).div_ceil(HELD).clamp(1, n.max(1));
    let size = n.div_ceil(count).max(1);
    (0..n).step_by(size).map(move |start| start..n.min(start + size))
}

/// Head and loss as one node of the tape.
pub(super) fn node<T: Float>(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    targets: &[i64],
    options: &CrossEntropyOptions,
    count: usize,
) -> Result<Loss> {
    let (n, d) = hidden.dims2()?;
    let v = weight.dim(0)?;
    let (mut losses, mut log_sums) = (vec![0.0; n], buffer::<T>(n));
    let mut inputs = vec![hidden, weight];
    inputs.extend(bias);
    let tracked = inputs.iter().any(|x| x.track_op());
    let mut kept = None;
    with2(hidden, weight, |hidden: &[T], weight: &[T]| {
        with_option(bias, |bias| {
            let mut held = scratch::<T>(0);
            for rows in chunks(n, v) {
                held.resize(rows.len() * v);
                let logits = &mut held[..];
                let hidden = &hidden[rows.start * d..rows.end * d];
                linear::cpu::forward(hidden, (rows.len(), d, v), weight, bias, logits, v);
                let targets = &targets[rows.clone()];
                forward(logits, v, targets, options, &mut losses[rows.clone()], &mut log_sums[rows]);
            }
            kept = (tracked && n * v <= KEPT).then_some(held);
            Ok(())
        })
    })?;
    let total = vec![T::of(losses.iter().sum())];
    let (targets, options) = (targets.to_vec(), *options);
    let (h, w, b) = (hidden.clone(), weight.clone(), bias.cloned());
    let sum = tape::record(&inputs, total, (), move |dloss| {
        let scale = with(dloss, |dloss: &[T]| Ok(dloss[0]))?;
        let mut dhidden = buffer::<T>(n * d);
        // The weight's gradient is made chunk by chunk inside the sink's call: first the other two, then that.
        let mut dbias_sum = buffer::<T>(if b.is_some() { v } else { 0 });
        let mut run = |dweight: Option<(&mut [T], Write)>| -> Result<()> {
            let mut dweight = dweight;
            with2(&h, &w, |h: &[T], w: &[T]| {
                with_option(b.as_ref(), |b| {
                    let mut dlogits = scratch::<T>(0);
                    for rows in chunks(n, v) {
                        let hidden = &h[rows.start * d..rows.end * d];
                        dlogits.resize(rows.len() * v);
                        match &kept {
                            Some(logits) => dlogits.copy_from_slice(logits),
                            None => {
                                let sizes = (rows.len(), d, v);
                                linear::cpu::forward(hidden, sizes, w, b, &mut dlogits, v);
                            }
                        }
                        let (targets, log_sums) = (&targets[rows.clone()], &log_sums[rows.clone()]);
                        backward(&mut dlogits, v, targets, &options, log_sums, scale);
                        let view = View::new(&dlogits, rows.len(), v);
                        let dh = &mut dhidden[rows.start * d..rows.end * d];
                        project(dh, d, Write::Store, T::of(1.0), view, View::new(w, v, d));
                        if let Some((out, write)) = &mut dweight {
                            let hidden = View::new(hidden, rows.len(), d);
                            project(out, d, *write, T::of(1.0), view.t(), hidden);
                            *write = Write::Add;
                        }
                        if !dbias_sum.is_empty() {
                            elementwise::column_sums(&mut dbias_sum, &dlogits, v, v, true);
                        }
                    }
                    if let Some((out, Write::Store)) = dweight {
                        out.fill(T::default());
                    }
                    Ok(())
                })
            })
        };
        let mut done = false;
        let dweight = sink::parameter::<T>(&w, |out, write| {
            done = true;
            run(Some((out, write)))
        })?;
        if !done {
            run(None)?;
        }
        let dbias = match &b {
            Some(b) => sink::parameter::<T>(b, |out, write| {
                elementwise::column_sums(out, &dbias_sum, v, v, write == Write::Add);
                Ok(())
            })?,
            None => None,
        };
        Ok(vec![Some(tensor(dhidden, (n, d))?), dweight, dbias])
    })?;
    Ok(Loss { sum, count })
}
