//! The attention sublayer on the CPU: queries, keys and values side by side in one buffer.
#![allow(unsafe_code)]

use super::heads::{NormedHeads, Place};
use super::{AttentionLayer, Heads};
use crate::attention::cpu::{Gradients, Problem, Saved, backward, forward};
use crate::attention::reference::Sizes;
use crate::kernel::parallel::Shared;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, with, with2};
use crate::kernel::scratch::{Scratch, Values, cleared, scratch};
use crate::kernel::{Float, elementwise};
use crate::linear::cpu::{input, parameters, product};
use crate::parts::Linear;
use crate::rotary::cpu::Turns;
use crate::rotary::reference::check_tables;
use crate::sublayer::{KeptNorm, OutputProjection, Side, backward_to_x, normed};
use crate::tape::{self, InputGradients};
use candle_core::{Result, Tensor, bail};

/// What the node keeps for its backward pass.
struct Kept<T: Float> {
    x: Tensor,
    norm: Option<KeptNorm<T>>,
    /// Query, key and value: each with where its part of a row of `qkv` starts, and its width.
    sides: [(Linear<Tensor>, usize, usize); 3],
    /// The norms of queries and keys.
    heads: Vec<NormedHeads<T>>,
    turns: Option<Turns<T>>,
    problem: Problem,
    qkv: Scratch<T>,
    context: Scratch<T>,
    log_sums: Vec<T>,
    output: OutputProjection,
}

pub(super) fn node<T: Float>(
    x: &Tensor,
    parts: &AttentionLayer,
    (h, g): Heads,
    inputs: &mut [&Tensor],
) -> Result<Tensor> {
    let ((b, t, d), k) = (x.dims3()?, parts.d_head);
    let Some(output) = parts.output else { bail!("attention_layer: no output projection") };
    parts.attention.mask.check(b, t, t)?;
    parts.attention.dropout.map_or(Ok(()), crate::Dropout::check)?;
    let turns = match parts.rotary {
        Some(tables) => {
            check_tables((b, t, k), tables.cos, tables.sin, tables.positions)?;
            Some(Turns::<T>::new(tables.cos, tables.sin, tables.positions, b, t)?)
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
    };
    let sides = [
        (parts.query.owned(), 0, h * k),
        (parts.key.owned(), h * k, g * k),
        (parts.value.owned(), (h + g) * k, g * k),
    ];
    let output_projection = OutputProjection {
        projection: output.owned(),
        residual: parts.residual,
        dropout: parts.dropout.filter(|dropout| dropout.p > 0.0).cloned(),
        rows: b,
    };
    let (y, kept) = with(x, |values: &[T]| {
        let (rows, norm) = normed(parts.norm, values)?;
        let mut qkv = scratch::<T>(n * wide);
        let mut bias = buffer::<T>(wide);
        for (projection, at, width) in &sides {
            with(&projection.weight, |weight: &[T]| {
                if n > 0 {
                    product(&rows, (n, d, *width), weight, &mut qkv[*at..], wide, Write::Store);
                }
                Ok(())
            })?;
            if let Some(own) = &projection.bias {
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
        if let Some(turns) = &turns {
            // Query heads and key heads stand side by side.
            turns.turn(&mut qkv, wide, h + g, k, false);
        }
        let (mut context, mut log_sums) = (scratch::<T>(n * h * k), buffer::<T>(b * h * t));
        if n > 0 {
            let (keys, values) = (&qkv[h * k..], &qkv[(h + g) * k..]);
            forward(&problem, &qkv, keys, values, &mut context, &mut log_sums);
        }
        let y = output_projection.forward(values, &context, n)?;
        let output = output_projection;
        Ok((y, Kept { x: x.clone(), norm, sides, heads, turns, problem, qkv, context, log_sums, output }))
    })?;
    let width = output.weight.dim(0)?;
    tape::record(inputs, y, (b, t, width), move |dy| kept.backward(dy))
}

impl<T: Float> Kept<T> {
    fn backward(&self, dy: &Tensor) -> Result<InputGradients> {
        let Sizes { b, t, h, g, k, .. } = self.problem.sizes;
        let (n, wide) = (b * t, self.problem.q_stride);
        let output = &self.output.projection;
        let o = output.weight.dim(0)?;
        with2(&self.x, dy, |x: &[T], dy: &[T]| {
            let dprojected = self.output.dprojected(dy);
            let of_output = parameters(
                &self.context,
                (n, h * k, o),
                &dprojected,
                o,
                &output.weight,
                output.bias.as_ref(),
            )?;
            let mut dcontext = scratch::<T>(n * h * k);
            with(&output.weight, |weight: &[T]| {
                input(&dprojected, o, (n, h * k, o), weight, &mut dcontext, Write::Store);
                Ok(())
            })?;
            let mut dqkv = cleared::<T>(n * wide);
            if n > 0 {
                let all = Shared::new(&mut dqkv);
                let gradients = Gradients { dq: all.from(0), dk: all.from(h * k), dv: all.from((h + g) * k) };
                let saved = Saved {
                    q: &self.qkv,
                    k: &self.qkv[h * k..],
                    v: &self.qkv[(h + g) * k..],
                    out: &self.context,
                    log_sums: &self.log_sums,
                };
                // SAFETY: the three parts of a row of dqkv don't overlap.
                unsafe { backward(&self.problem, saved, &dcontext, &gradients) };
            }
            if let Some(turns) = &self.turns {
                turns.turn(&mut dqkv, wide, h + g, k, true);
            }
            let mut of_heads = Vec::new();
            for norm in &self.heads {
                of_heads.extend(norm.backward(&mut dqkv)?);
            }
            let sides = self.sides.each_ref().map(|(projection, at, width)| Side {
                projection,
                douts: Values::Borrowed(dqkv.get(*at..).unwrap_or_default()),
                stride: wide,
                width: *width,
            });
            let residual = self.output.residual.then_some(dy);
            let mut found = backward_to_x(&self.x, x, self.norm.as_ref(), sides, residual)?;
            found.push(of_output.0);
            found.extend(output.bias.as_ref().map(|_| of_output.1));
            found.extend(of_heads);
            Ok(found)
        })
    }
}
