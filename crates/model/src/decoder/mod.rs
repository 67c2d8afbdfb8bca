//! One token at a time on the CPU: the same layers without tensors or autograd, at the speed of reading their weights.
//!
//! [`Transformer::forward`] reads a prompt and leaves its keys and values in a [`KvCache`]; [`Decoder`] takes them over
//! and continues token by token. Each matrix is shared out by rows over a team of threads, each row summed in one order,
//! so the logits have the same bits on any number of threads.

mod row;
mod weights;

use candle_core::{Result, bail};
use vulpes_ops::decode::{
    Team, activate_no_grad, attend_no_grad, gate_no_grad, layer_norm_no_grad, matvec_no_grad,
    rms_norm_no_grad, rotary_no_grad,
};
use vulpes_ops::{Linear, Norm};

pub use row::DecoderRow;

use crate::cache::KvCache;
use crate::config::{MaskKind, ModelConfig};
use crate::layers::{Attention, Embedding, FeedForward, HeadLayer, Layers, Residual};
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
    /// Cosines and sines of the rotary angles of each kind of layer, `[context_len][k/2]` each.
    rotary: Vec<Option<(Vec<f32>, Vec<f32>)>>,
    team: Team,
    room: Room,
}

/// Room for what comes between the layers.
#[derive(Default)]
struct Room {
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    context: Vec<f32>,
    out: Vec<f32>,
    inner: Vec<f32>,
    logits: Vec<f32>,
}

impl<'m> Decoder<'m> {
    /// The decoder of a model on a team of `threads`; `None` where it has no form here: on another device, in another
    /// dtype than float32, with a mask that looks ahead, with token types, or with another head than the next token's.
    ///
    /// # Errors
    /// Returns an error if a rotary table can't be read.
    pub fn new(model: &'m Transformer, threads: usize) -> crate::error::Result<Option<Self>> {
        let (config, layers) = (model.config(), model.layers());
        let Embedding { token: _, position: _, token_type, norm: _, dropout: _ } = &layers.embedding;
        let next_token = matches!(&layers.head, HeadLayer::Vocabulary { transform: None, bias: None, .. });
        let fits = next_token && token_type.is_none() && config.mask == MaskKind::Causal;
        if !fits || !layers.leaves().into_iter().all(Weights::takes) {
            return Ok(None);
        }
        let table = |table: Option<(&candle_core::Tensor, &candle_core::Tensor)>| -> Result<_> {
            let Some((cos, sin)) = table else { return Ok(None) };
            Ok(Some((cos.flatten_all()?.to_vec1()?, sin.flatten_all()?.to_vec1()?)))
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
        let Layers { embedding, blocks, norm, head, kinds: _ } = &*layers;
        let Embedding { token, position: positions, token_type: _, norm: embedding_norm, dropout: _ } =
            embedding;
        let d = config.d_model;
        room.x.clear();
        room.x.extend_from_slice(&token.get()[id * d..(id + 1) * d]);
        if let Some(positions) = positions {
            add(&mut room.x, &positions.get()[position * d..(position + 1) * d]);
        }
        normalize(embedding_norm.as_ref(), &mut room.x, &mut room.normed);
        for (block, ring) in blocks.iter().zip(&mut row.layers) {
            let angles = rotary[block.kind].as_ref();
            attend(&block.attention, angles, ring, position, team, room);
            if let Some(inner) = &block.feed_forward {
                feed_forward(inner, team, room);
            }
        }
        row.n_seen += 1;
        normalize(norm.as_ref(), &mut room.x, &mut room.normed);
        let weight = match head {
            HeadLayer::Vocabulary { weight: Some(weight), transform: _, bias: _ } => weight,
            // A tied head; `new` takes no other kind.
            HeadLayer::Vocabulary { weight: None, .. }
            | HeadLayer::Labels { .. }
            | HeadLayer::Hidden { .. } => token,
        };
        room.logits.resize(config.vocab_size, 0.0);
        let (weight, x) = (weight.get(), &room.x);
        team.split(&mut room.logits, 16, &|first, part| {
            matvec_no_grad(&weight[first * x.len()..(first + part.len()) * x.len()], x, None, part);
        });
        Ok(&room.logits)
    }
}

/// The attention sublayer of one token.
fn attend(
    attention: &Attention<Weights>,
    angles: Option<&(Vec<f32>, Vec<f32>)>,
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
        d_head,
        n_head,
        n_kv_head,
        scale,
        dropout: _,
    } = attention;
    let (k, n_head, n_group, scale) = (*d_head, *n_head, *n_kv_head, *scale as f32);
    before(residual, room);
    // Queries, keys and values in one go: the rows of three matrices, one below the other.
    room.qkv.resize((n_head + 2 * n_group) * k, 0.0);
    let sides = [(query, 0), (key, n_head * k), (value, (n_head + n_group) * k)];
    let x = &room.normed;
    team.split(&mut room.qkv, k, &|first, part| rows_times(&sides, x, first, part));
    if let Some((cos, sin)) = angles {
        let at = position * k / 2..(position + 1) * k / 2;
        rotary_no_grad(&mut room.qkv[..(n_head + n_group) * k], &cos[at.clone()], &sin[at]);
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

/// The feed-forward sublayer of one token.
fn feed_forward(inner: &FeedForward<Weights>, team: &mut Team, room: &mut Room) {
    let FeedForward { layer: _, residual, activation, gate, up, down } = inner;
    before(residual, room);
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
fn before(residual: &Residual<Weights>, room: &mut Room) {
    match &residual.before {
        Some(norm) => normed(norm, &room.x, &mut room.normed),
        None => room.normed.clone_from(&room.x),
    }
}

/// What becomes of a sublayer's result.
fn after(residual: &Residual<Weights>, room: &mut Room) {
    let Residual { before: _, after, add: adds, dropout: _ } = residual;
    match adds {
        true => add(&mut room.x, &room.out),
        false => room.x.clone_from(&room.out),
    }
    normalize(after.as_ref(), &mut room.x, &mut room.normed);
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
    }
}
