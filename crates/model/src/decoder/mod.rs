//! One token at a time on the CPU: the same layers without tensors or autograd, at the speed of reading their weights.
//!
//! [`Transformer::forward`] reads a prompt and leaves its keys and values in a [`KvCache`]; [`Decoder`] takes them over
//! and continues token by token. Each matrix is shared out by rows over a team of threads, each row summed in one order,
//! so the logits have the same bits on any number of threads.

mod row;
mod weights;

use candle_core::{Result, bail};
use vulpes_ops::Linear;
use vulpes_ops::decode::{
    Team, activate_no_grad, attend_no_grad, gate_no_grad, layer_norm_no_grad, matvec_no_grad,
    rms_norm_no_grad, rotary_no_grad,
};

pub use row::DecoderRow;

use crate::cache::KvCache;
use crate::config::{BlockKind, MaskKind, ModelConfig, Positions};
use crate::layers::{Attention, Block, Embedding, FeedForward, HeadLayer, Layers, Norm, Residual};
use crate::transformer::Transformer;
use row::Ring;
use weights::{Weights, rows_times};

/// A model that continues rows one token at a time, for as long as it is borrowed.
///
/// It holds read locks on every parameter for its life: an optimizer's in-place step waits until it is dropped, on the
/// same thread for ever.
pub struct Decoder<'m> {
    config: &'m ModelConfig,
    layers: Layers<Weights<'m>>,
    /// The rotary angles of each kind of layer.
    rotary: Vec<Option<Angles>>,
    team: Team,
    room: Room,
}

/// Cosines and sines of rotary angles, `[context_len][n_pair]` each.
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    n_pair: usize,
}

impl Norm<Weights<'_>> {
    /// The number of elements that are normed together.
    fn width(&self) -> usize {
        match self {
            Self::Layer { weight, .. } | Self::Rms { weight, .. } | Self::RmsPlusOne { weight, .. } => {
                weight.get().len()
            }
        }
    }
}

/// Room for what comes between the layers.
#[derive(Default)]
struct Room {
    x: Vec<f32>,
    /// What a block of parallel sublayers reads.
    block: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    out: Vec<f32>,
    inner: Vec<f32>,
    logits: Vec<f32>,
}

impl<'m> Decoder<'m> {
    /// The decoder of a model on a team of `threads`; `None` where it has no form here: on another device, in another
    /// dtype than float32, with a mask that looks ahead, with token types, with biases on the scores, with counted positions, or
    /// with another head than the next token's.
    ///
    /// # Errors
    /// Returns an error if a rotary table can't be read.
    pub fn new(model: &'m Transformer, threads: usize) -> crate::error::Result<Option<Self>> {
        let (config, layers) = (model.config(), model.layers());
        let Embedding { token: _, position: _, token_type, scale: _, norm: _, dropout: _ } =
            &layers.embedding;
        let next_token = matches!(&layers.head, HeadLayer::Vocabulary { transform: None, .. });
        let fits = next_token
            && token_type.is_none()
            && layers.relative_bias.is_none()
            && config.mask == MaskKind::Causal
            && config.positions != Positions::Counted;
        if !fits || !layers.leaves().into_iter().all(Weights::takes) {
            return Ok(None);
        }
        let table = |table: Option<(&candle_core::Tensor, &candle_core::Tensor)>| -> Result<_> {
            let Some((cos, sin)) = table else { return Ok(None) };
            let n_pair = cos.dim(1)?;
            Ok(Some(Angles {
                cos: cos.flatten_all()?.to_vec1()?,
                sin: sin.flatten_all()?.to_vec1()?,
                n_pair,
            }))
        };
        Ok(Some(Self {
            config,
            layers: layers.try_map(&mut Weights::of)?,
            rotary: model.rotary_tables().map(table).collect::<Result<_>>()?,
            team: Team::new(threads),
            room: Room::default(),
        }))
    }

    /// A row that has read nothing.
    pub fn empty_row(&self) -> DecoderRow {
        DecoderRow::empty(self.config)
    }

    /// Takes over what row `row` of a cache holds.
    ///
    /// # Errors
    /// Returns an error if the cache is empty or another model's.
    pub fn take_over(&self, cache: &KvCache, row: usize) -> Result<DecoderRow> {
        DecoderRow::of_cache(self.config, cache, row)
    }

    /// Reads one more token of a row, and returns the logits of what comes next.
    ///
    /// # Errors
    /// Returns an error if the id is outside the vocabulary or the context is full.
    pub fn step(&mut self, row: &mut DecoderRow, id: u32) -> Result<&[f32]> {
        let (config, position, id) = (self.config, row.n_seen, id as usize);
        if id >= config.vocab_size || position >= config.context_len {
            bail!(
                "token {id} at position {position}: the model has {} tokens and {} positions",
                config.vocab_size,
                config.context_len
            );
        }
        let Self { layers, rotary, team, room, .. } = self;
        let Layers { embedding, relative_bias: _, blocks, norm, head, kinds: _ } = &*layers;
        let Embedding { token, position: positions, token_type: _, scale, norm: embedding_norm, dropout: _ } =
            embedding;
        let d = config.d_model;
        room.x.clear();
        room.x.extend_from_slice(&token.get()[id * d..(id + 1) * d]);
        if let Some(positions) = positions {
            add(&mut room.x, &positions.get()[position * d..(position + 1) * d]);
        }
        if *scale != 1.0 {
            multiply(&mut room.x, *scale);
        }
        normalize(embedding_norm.as_ref(), &mut room.x, &mut room.normed);
        for (block, ring) in blocks.iter().zip(&mut row.layers) {
            let angles = rotary[block.kind].as_ref();
            let Block { layer: _, kind: _, form, attention, feed_forward: inner } = block;
            let parallel = matches!(form, BlockKind::Parallel | BlockKind::ParallelShared);
            if parallel {
                room.block.clone_from(&room.x);
            }
            attend(attention, angles, ring, position, team, room);
            if let Some(inner) = inner {
                if parallel {
                    // The feed-forward reads what attention has read, and adds to what attention has made.
                    std::mem::swap(&mut room.x, &mut room.block);
                }
                before(inner.residual.before.as_ref().or(block.shared_norm()), room);
                if parallel {
                    std::mem::swap(&mut room.x, &mut room.block);
                }
                feed_forward(inner, team, room);
            }
        }
        row.n_seen += 1;
        normalize(norm.as_ref(), &mut room.x, &mut room.normed);
        let HeadLayer::Vocabulary { transform: _, weight, bias, divisor, softcap } = head else {
            bail!("a decoder gives the logits of the next token");
        };
        if *divisor != 1.0 {
            multiply(&mut room.x, divisor.recip());
        }
        room.logits.resize(config.vocab_size, 0.0);
        let (weight, x) = (weight.as_ref().unwrap_or(token).get(), &room.x);
        let bias = bias.as_ref().map(Weights::get);
        team.split(&mut room.logits, 16, &|first, part| {
            let rows = first..first + part.len();
            let bias = bias.map(|bias| &bias[rows.clone()]);
            matvec_no_grad(&weight[rows.start * x.len()..rows.end * x.len()], x, bias, part);
        });
        if let Some(cap) = softcap {
            let cap = *cap as f32;
            room.logits.iter_mut().for_each(|logit| *logit = (*logit / cap).tanh() * cap);
        }
        Ok(&room.logits)
    }
}

/// The attention sublayer of one token.
fn attend(
    attention: &Attention<Weights>,
    angles: Option<&Angles>,
    ring: &mut Ring,
    position: usize,
    team: &mut Team,
    room: &mut Room,
) {
    let Attention {
        layer: _,
        residual,
        query,
        key,
        value,
        output,
        query_norm,
        key_norm,
        d_head,
        n_head,
        n_kv_head,
        scale,
        dropout: _,
    } = attention;
    let (k, n_head, n_group, scale) = (*d_head, *n_head, *n_kv_head, *scale as f32);
    before(residual.before.as_ref(), room);
    // Queries, keys and values in one go: the rows of three matrices, one below the other.
    room.qkv.resize((n_head + 2 * n_group) * k, 0.0);
    let sides = [(query, 0), (key, n_head * k), (value, (n_head + n_group) * k)];
    let x = &room.normed;
    team.split(&mut room.qkv, k, &|first, part| rows_times(&sides, x, first, part));
    for (norm, heads) in [(query_norm, 0..n_head), (key_norm, n_head..n_head + n_group)] {
        if let Some(norm) = norm {
            let rows = &mut room.qkv[heads.start * k..heads.end * k];
            rows.chunks_exact_mut(norm.width()).for_each(|row| normalize_part(norm, row, &mut room.out));
        }
    }
    if let Some(Angles { cos, sin, n_pair }) = angles {
        let at = position * n_pair..(position + 1) * n_pair;
        rotary_no_grad(&mut room.qkv[..(n_head + n_group) * k], k, &cos[at.clone()], &sin[at]);
    }
    let Ring { keys, values, n_slot } = ring;
    let (n_slot, slot) = (*n_slot, position % *n_slot);
    let held = (position + 1).min(n_slot);
    for group in 0..n_group {
        let at = (group * n_slot + slot) * k;
        let (key, value) = ((n_head + group) * k, (n_head + n_group + group) * k);
        keys[at..at + k].copy_from_slice(&room.qkv[key..key + k]);
        values[at..at + k].copy_from_slice(&room.qkv[value..value + k]);
    }
    room.context.resize(n_head * k, 0.0);
    let (queries, keys, values) = (&room.qkv, &*keys, &*values);
    team.split(&mut room.context, k, &|first, part| {
        let mut scores = vec![0.0; held];
        for (n, out) in part.chunks_exact_mut(k).enumerate() {
            let head = first / k + n;
            let at = head / (n_head / n_group) * n_slot * k;
            let (query, held) = (&queries[head * k..(head + 1) * k], at..at + held * k);
            attend_no_grad(query, &keys[held.clone()], &values[held], scale, &mut scores, out);
        }
    });
    match output {
        Some(output) => project(output, &room.context, &mut room.out, team),
        None => room.out.clone_from(&room.context),
    }
    after(residual, room);
}

/// The feed-forward sublayer of one token, of what is in `room.normed`.
fn feed_forward(inner: &FeedForward<Weights>, team: &mut Team, room: &mut Room) {
    let FeedForward { layer: _, residual, activation, gate, up, down } = inner;
    room.inner.resize(up.weight.get().len() / room.normed.len(), 0.0);
    let x = &room.normed;
    team.split(&mut room.inner, 4, &|first, part| {
        rows_times(&[(up, 0)], x, first, part);
        match gate {
            Some(gate) => {
                let mut gates = vec![0.0; part.len()];
                rows_times(&[(gate, 0)], x, first, &mut gates);
                gate_no_grad(*activation, &gates, part);
            }
            None => activate_no_grad(*activation, part),
        }
    });
    project(down, &room.inner, &mut room.out, team);
    after(residual, room);
}

fn project(linear: &Linear<Weights>, x: &[f32], out: &mut Vec<f32>, team: &mut Team) {
    out.resize(linear.weight.get().len() / x.len(), 0.0);
    team.split(out, 4, &|first, part| rows_times(&[(linear, 0)], x, first, part));
}

/// What a sublayer reads: x, or its norm.
fn before(norm: Option<&Norm<Weights>>, room: &mut Room) {
    match norm {
        Some(norm) => normed(norm, &room.x, &mut room.normed),
        None => room.normed.clone_from(&room.x),
    }
}

/// What becomes of a sublayer's result.
fn after(residual: &Residual<Weights>, room: &mut Room) {
    let Residual { before: _, branch, multiplier, after, add: adds, dropout: _ } = residual;
    normalize(branch.as_ref(), &mut room.out, &mut room.normed);
    if *multiplier != 1.0 {
        multiply(&mut room.out, *multiplier);
    }
    match adds {
        true => add(&mut room.x, &room.out),
        false => room.x.clone_from(&room.out),
    }
    normalize(after.as_ref(), &mut room.x, &mut room.normed);
}

/// A part of the queries or keys becomes its norm.
fn normalize_part(norm: &Norm<Weights>, part: &mut [f32], room: &mut Vec<f32>) {
    normed(norm, part, room);
    part.copy_from_slice(room);
}

fn multiply(x: &mut [f32], factor: f64) {
    x.iter_mut().for_each(|x| *x *= factor as f32);
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// x becomes its norm, where there is one.
fn normalize(norm: Option<&Norm<Weights>>, x: &mut Vec<f32>, room: &mut Vec<f32>) {
    if let Some(norm) = norm {
        normed(norm, x, room);
        std::mem::swap(x, room);
    }
}

fn normed(norm: &Norm<Weights>, x: &[f32], out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    match norm {
        Norm::Layer { weight, bias, eps } => {
            layer_norm_no_grad(x, weight.get(), bias.as_ref().map(Weights::get), *eps, out);
        }
        Norm::Rms { weight, eps } => rms_norm_no_grad(x, weight.get(), *eps, out),
        Norm::RmsPlusOne { weight, eps } => {
            let scale: Vec<f32> = weight.get().iter().map(|weight| weight + 1.0).collect();
            rms_norm_no_grad(x, &scale, *eps, out);
        }
    }
}
