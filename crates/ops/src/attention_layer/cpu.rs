//! The fused attention sublayer on the CPU, with queries, keys and values in one buffer.
#![allow(unsafe_code)]

use super::heads::{NormedHeads, Place};
use super::{AttentionLayer, Heads};
use crate::attention::cpu::{backward, forward};
use crate::attention::problem::{Gradients, Problem, Saved};
use crate::attention::reference::Sizes;
use crate::kernel::parallel::Shared;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with2};
use crate::kernel::scratch::{Values, cleared, scratch};
use crate::kernel::{Float, elementwise};
use crate::linear::adapted::cpu::Applied;
use crate::rotary::cpu::Rotation;
use crate::rotary::reference::check_tables;
use crate::stored::Stored;
use crate::sublayer::{KeptNorm, OutputApplied, OutputProjection, Side, backward_to_x, normed};
use crate::tape::{self, InputGradients};
use crate::threads::precision_of;
use candle_core::{Result, Tensor, bail};

/// What the node keeps for its backward pass.
struct Kept<T: Float> {
    x: Tensor,
    norm: Option<KeptNorm<T>>,
    /// Query, key and value: each with the offset of its part in a row of `qkv`.
    sides: Vec<(Applied<T>, usize)>,
    /// The norms of queries and keys.
    heads: Vec<NormedHeads<T>>,
    rotation: Option<Rotation<T>>,
    problem: Problem,
    qkv: Stored<T>,
    context: Stored<T>,
    log_sums: Vec<T>,
    output: OutputApplied<T>,
    /// Whether something was added to the values.
    adds_values: bool,
}

pub(super) fn node<T: Float>(
    x: &Tensor,
    parts: &AttentionLayer,
    (h, g): Heads,
    inputs: &mut [&Tensor],
) -> Result<Tensor> {
    let ((b, t, _), k) = (x.dims3()?, parts.d_head);
    let Some(output) = parts.output else { bail!("attention_layer: no output projection") };
    parts.attention.mask.check(b, t, t)?;
    parts.attention.dropout.map_or(Ok(()), crate::Dropout::check)?;
    let rotation = match parts.rotary {
        Some(tables) => {
            check_tables((b, t, k), tables.cos, tables.sin, tables.positions)?;
            Some(Rotation::<T>::new(tables.cos, tables.sin, tables.positions, b, t)?)
        }
        None => None,
    };
    let (n, wide) = (b * t, (h + 2 * g) * k);
    let problem = Problem {
        sizes: Sizes { b, t, s: t, h, g, k },
        q_stride: wide,
        kv_stride: wide,
        out_stride: h * k,
        scale: parts.attention.scale,
        mask: parts.attention.mask.clone(),
        dropout: parts.attention.dropout.cloned(),
        precision: precision_of(T::DTYPE),
    };
    let sides = [(parts.query, 0, h * k), (parts.key, h * k, g * k), (parts.value, (h + g) * k, g * k)];
    let output_projection = OutputProjection {
        projection: output,
        residual: parts.residual,
        dropout: parts.dropout,
        adapter_dropout: parts.adapter_dropout,
        rows: b,
    };
    let (y, kept) = with(x, |values: &[T]| {
        let (rows, norm) = normed(parts.norm, values)?;
        let mut qkv = scratch::<T>(n * wide);
        let mut bias = buffer::<T>(wide);
        let mut applied = Vec::with_capacity(sides.len());
        for (projection, at, width) in &sides {
            let part = (qkv.get_mut(*at..).unwrap_or_default(), wide, Write::Store);
            applied.push((Applied::forward(*projection, parts.adapter_dropout, &rows, (n, b), part)?, *at));
            if let Some(own) = projection.bias {
                with(own, |own: &[T]| {
                    bias[*at..at + width].copy_from_slice(own);
                    Ok(())
                })?;
            }
        }
        if sides.iter().any(|(projection, ..)| projection.bias.is_some()) {
            elementwise::add_bias(&mut qkv, &bias);
        }
        let mut heads = Vec::new();
        for (norm, (_, at, width)) in [parts.query_norm, parts.key_norm].iter().zip(&sides) {
            if let Some(norm) = norm {
                let place = Place { wide, at: *at, width: *width };
                heads.push(NormedHeads::forward(norm, place, &mut qkv)?);
            }
        }
        if let Some(rotation) = &rotation {
            // Query heads and key heads are adjacent.
            rotation.apply(&mut qkv, wide, h + g, k, false);
        }
        if let Some(added) = parts.added_values {
            with(added, |added: &[T]| {
                let values = qkv.chunks_exact_mut(wide.max(1)).map(|row| &mut row[(h + g) * k..]);
                for (values, added) in values.zip(added.chunks_exact((g * k).max(1))) {
                    values.iter_mut().zip(added).for_each(|(value, added)| *value += *added);
                }
                Ok(())
            })?;
        }
        let qkv = Stored::new(qkv);
        let (mut context, mut log_sums) = (scratch::<T>(n * h * k), buffer::<T>(b * h * t));
        if n > 0 {
            let factors = [0, h * k, (h + g) * k].map(|at| qkv.factor().from(at));
            forward(&problem, factors, &mut context, &mut log_sums);
        }
        let context = Stored::new(context);
        let (y, output) = output_projection.forward(values, &context.values(), n)?;
        let (x, sides, adds_values) = (x.clone(), applied, parts.added_values.is_some());
        Ok((
            y,
            Kept { x, norm, sides, heads, rotation, problem, qkv, context, log_sums, output, adds_values },
        ))
    })?;
    let width = output.weight.dim(0)?;
    tape::record(inputs, y, (b, t, width), move |dy| kept.backward(dy))
}

impl<T: Float> Kept<T> {
    fn backward(&self, dy: &Tensor) -> Result<InputGradients> {
        let Sizes { b, t, h, g, k, .. } = self.problem.sizes;
        let (n, wide) = (b * t, self.problem.q_stride);
        with2(&self.x, dy, |x: &[T], dy: &[T]| {
            let incoming = self.output.incoming(dy, n)?;
            let context = self.context.values();
            let of_output = self.output.applied.parameters(&incoming, &context, n)?;
            let mut dcontext = scratch::<T>(n * h * k);
            self.output.applied.input(&incoming, n, &mut dcontext, Write::Store)?;
            drop(incoming);
            let mut dqkv = cleared::<T>(n * wide);
            if n > 0 {
                let all = Shared::new(&mut dqkv);
                let gradients = Gradients { dq: all.from(0), dk: all.from(h * k), dv: all.from((h + g) * k) };
                let [q, k, v] = [0, h * k, (h + g) * k].map(|at| self.qkv.factor().from(at));
                let saved = Saved { q, k, v, out: &context, log_sums: &self.log_sums };
                // SAFETY: the three parts of a row of dqkv don't overlap.
                unsafe { backward(&self.problem, saved, &dcontext, &gradients) };
            }
            if let Some(rotation) = &self.rotation {
                rotation.apply(&mut dqkv, wide, h + g, k, true);
            }
            let mut of_heads = Vec::new();
            for norm in &self.heads {
                of_heads.extend(norm.backward(&mut dqkv)?);
            }
            let sides = self.sides.iter().map(|(applied, at)| Side {
                applied,
                douts: Values::Borrowed(dqkv.get(*at..).unwrap_or_default()),
                stride: wide,
            });
            let residual = self.output.residual.then_some(dy);
            let mut found = backward_to_x(&self.x, x, self.norm.as_ref(), sides, residual)?;
            found.extend(of_output);
            found.extend(of_heads);
            if self.adds_values {
                let rows = dqkv.chunks_exact(wide.max(1)).flat_map(|row| &row[(h + g) * k..]);
                found.push(Some(tensor(rows.copied().collect(), (b, t, g * k))?));
            }
            Ok(found)
        })
    }
}
