//! One token at a time on the CPU: the same model without tensors or autograd, at the speed of reading its weights.
//!
//! [`Transformer::forward`] reads a prompt and leaves its keys and values in a [`KvCache`]; [`Decoder`] takes them over
//! and goes on token by token. Each matrix is shared out by rows over a team of threads, each row summed in one order,
//! so the logits have the same bits on any number of threads.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Result, Storage};
use vulpes_ops::decode::{
    Team, attend_no_grad, gelu_tanh_no_grad, layer_norm_no_grad, matvec_no_grad, relu2_no_grad,
    rms_norm_no_grad, rotary_no_grad, swiglu_no_grad,
};

use crate::config::{BlockKind, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions};
use crate::{KvCache, Transformer};

/// A model that continues rows one token at a time, for as long as it is borrowed.
pub struct Decoder<'m> {
    config: &'m ModelConfig,
    token: Weight<'m>,
    position: Option<Weight<'m>>,
    embedding_norm: Option<Norm<'m>>,
    /// Cosines and sines of the rotary angles, `[context_len][k/2]` each.
    rotary: Option<(Vec<f32>, Vec<f32>)>,
    blocks: Vec<Block<'m>>,
    norm: Option<Norm<'m>>,
    head: Option<Weight<'m>>,
    team: Team,
    room: Room,
}

/// Keys and values of one row, layer after layer; of a windowed model the last of them, in a ring.
#[derive(Clone, Debug)]
pub struct DecoderRow {
    /// `[layer][g][slot][k]`.
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Tokens for which there is room.
    n_slot: usize,
    /// Tokens read.
    n_seen: usize,
}

/// A parameter's numbers, held for reading.
struct Weight<'m> {
    guard: Box<dyn Deref<Target = Storage> + Sync + 'm>,
    start: usize,
    len: usize,
}

struct Linear<'m> {
    weight: Weight<'m>,
    bias: Option<Weight<'m>>,
}

enum Norm<'m> {
    Layer(Weight<'m>, Weight<'m>, f64),
    Rms(Weight<'m>, f64),
}

struct Block<'m> {
    query: Linear<'m>,
    key: Linear<'m>,
    value: Linear<'m>,
    output: Option<Linear<'m>>,
    attention_norm: Option<Norm<'m>>,
    feed_forward: Option<(Option<Linear<'m>>, Linear<'m>, Linear<'m>)>,
    feed_forward_norm: Option<Norm<'m>>,
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
    /// type than float32, with a mask that looks ahead, or with another head than the next token's.
    ///
    /// # Errors
    /// Where a parameter is missing.
    pub fn new(model: &'m Transformer, threads: usize) -> crate::Result<Option<Self>> {
        let config = model.config();
        let token = model.parameters().get("embedding.token.weight")?;
        let activation = matches!(
            config.feed_forward,
            FeedForwardKind::None
                | FeedForwardKind::GeluTanh
                | FeedForwardKind::Relu2
                | FeedForwardKind::Swiglu
        );
        let fits =
            config.head == Head::NextToken && config.mask == MaskKind::Causal && config.n_token_type == 0;
        if !(fits && activation && token.dtype() == DType::F32 && token.device().is_cpu()) {
            return Ok(None);
        }
        let weight = |name: &str| weight(model, name);
        let linear = |name: String, bias: bool| -> crate::Result<Linear<'m>> {
            let bias = bias.then(|| weight(&format!("{name}.bias"))).transpose()?;
            Ok(Linear { weight: weight(&format!("{name}.weight"))?, bias })
        };
        let norm = |name: String| -> crate::Result<Option<Norm<'m>>> {
            Ok(match config.norm {
                NormKind::None => None,
                NormKind::Layer => Some(Norm::Layer(
                    weight(&format!("{name}.weight"))?,
                    weight(&format!("{name}.bias"))?,
                    config.norm_eps,
                )),
                NormKind::Rms => Some(Norm::Rms(weight(&format!("{name}.weight"))?, config.norm_eps)),
            })
        };
        let block = |n: usize| -> crate::Result<Block<'m>> {
            let attention =
                |part: &str| linear(format!("blocks.{n}.attention.{part}"), config.attention_bias);
            let inner =
                |part: &str| linear(format!("blocks.{n}.feed_forward.{part}"), config.feed_forward_bias);
            let has_inner = config.feed_forward != FeedForwardKind::None;
            Ok(Block {
                query: attention("query")?,
                key: attention("key")?,
                value: attention("value")?,
                output: if config.block == BlockKind::Bare { None } else { Some(attention("output")?) },
                attention_norm: norm(format!("blocks.{n}.attention.norm"))?,
                feed_forward_norm: if has_inner {
                    norm(format!("blocks.{n}.feed_forward.norm"))?
                } else {
                    None
                },
                feed_forward: match has_inner {
                    true => {
                        let gate = if config.gated() { Some(inner("gate")?) } else { None };
                        Some((gate, inner("up")?, inner("down")?))
                    }
                    false => None,
                },
            })
        };
        Ok(Some(Self {
            config,
            token: weight("embedding.token.weight")?,
            position: match config.positions {
                Positions::Learned => Some(weight("embedding.position.weight")?),
                Positions::None | Positions::Rotary => None,
            },
            embedding_norm: if config.block == BlockKind::Post {
                norm("embedding.norm".into())?
            } else {
                None
            },
            rotary: match model.rotary_table() {
                Some((cos, sin)) => Some((cos.flatten_all()?.to_vec1()?, sin.flatten_all()?.to_vec1()?)),
                None => None,
            },
            blocks: (0..config.n_layer).map(block).collect::<crate::Result<_>>()?,
            norm: if config.block == BlockKind::Pre { norm("norm".into())? } else { None },
            head: if config.tied_head { None } else { Some(weight("head.weight")?) },
            team: Team::new(threads),
            room: Room::default(),
        }))
    }

    /// A row that has read nothing.
    pub fn empty_row(&self) -> DecoderRow {
        let config = self.config;
        let n_slot = config.window.unwrap_or(usize::MAX).min(config.context_len).max(1);
        let n = config.n_layer * config.n_kv_head * n_slot * config.d_head;
        DecoderRow { keys: vec![0.0; n], values: vec![0.0; n], n_slot, n_seen: 0 }
    }

    /// Takes over what row `row` of a cache holds.
    ///
    /// # Errors
    /// Where the cache is empty or another model's.
    pub fn take_over(&self, cache: &KvCache, row: usize) -> Result<DecoderRow> {
        let config = self.config;
        let mut taken = DecoderRow { n_seen: cache.n_seen(), ..self.empty_row() };
        let n_slot = taken.n_slot;
        let per_layer = config.n_kv_head * n_slot * config.d_head;
        for layer in 0..config.n_layer {
            let Some((keys, values)) = cache.layer(layer) else {
                candle_core::bail!("the cache holds nothing of layer {layer}");
            };
            for (from, to) in [(keys, &mut taken.keys), (values, &mut taken.values)] {
                let from = from.get(row)?.to_dtype(DType::F32)?.to_vec3::<f32>()?;
                let held = from.len();
                for (n, token) in from.iter().enumerate().skip(held.saturating_sub(n_slot)) {
                    let slot = (cache.n_seen() - held + n) % n_slot;
                    for (group, numbers) in token.iter().enumerate() {
                        let at = layer * per_layer + (group * n_slot + slot) * config.d_head;
                        to[at..at + config.d_head].copy_from_slice(numbers);
                    }
                }
            }
        }
        Ok(taken)
    }

    /// Reads one more token of a row; the logits of what comes next.
    ///
    /// # Errors
    /// Where the id is outside the vocabulary or the context is full.
    pub fn step(&mut self, row: &mut DecoderRow, id: u32) -> Result<&[f32]> {
        let (config, place, d) = (self.config, row.n_seen, self.config.d_model);
        let id = id as usize;
        if id >= config.vocab_size || place >= config.context_len {
            candle_core::bail!(
                "token {id} at place {place}: the model has {} tokens and {} places",
                config.vocab_size,
                config.context_len
            );
        }
        let mut room = std::mem::take(&mut self.room);
        room.x.clear();
        room.x.extend_from_slice(&self.token.get()[id * d..(id + 1) * d]);
        if let Some(position) = &self.position {
            let position = &position.get()[place * d..(place + 1) * d];
            room.x.iter_mut().zip(position).for_each(|(x, p)| *x += p);
        }
        if let Some(norm) = &self.embedding_norm {
            normed(norm, &room.x, &mut room.normed);
            std::mem::swap(&mut room.x, &mut room.normed);
        }
        for layer in 0..self.blocks.len() {
            self.attention(layer, row, &mut room);
            self.feed_forward(layer, &mut room);
        }
        row.n_seen += 1;
        if let Some(norm) = &self.norm {
            normed(norm, &room.x, &mut room.normed);
            std::mem::swap(&mut room.x, &mut room.normed);
        }
        room.logits.resize(config.vocab_size, 0.0);
        let head = self.head.as_ref().unwrap_or(&self.token).get();
        let x = &room.x;
        self.team.split(&mut room.logits, 16, &|first, part| {
            matvec_no_grad(&head[first * x.len()..(first + part.len()) * x.len()], x, None, part);
        });
        self.room = room;
        Ok(&self.room.logits)
    }

    /// The attention sublayer of one token.
    fn attention(&mut self, layer: usize, row: &mut DecoderRow, room: &mut Room) {
        let (config, block, place) = (self.config, &self.blocks[layer], row.n_seen);
        let (k, n_head, n_group) = (config.d_head, config.n_head, config.n_kv_head);
        if let (BlockKind::Pre, Some(norm)) = (config.block, &block.attention_norm) {
            normed(norm, &room.x, &mut room.normed);
        } else {
            room.normed.clone_from(&room.x);
        }
        // Queries, keys and values in one go: the rows of three matrices, one below the other.
        room.qkv.resize((n_head + 2 * n_group) * k, 0.0);
        let parts = [(&block.query, 0), (&block.key, n_head * k), (&block.value, (n_head + n_group) * k)];
        let x = &room.normed;
        self.team.split(&mut room.qkv, k, &|first, part| rows_of(&parts, x, first, part));
        if let Some((cos, sin)) = &self.rotary {
            let angles = place * k / 2..(place + 1) * k / 2;
            rotary_no_grad(&mut room.qkv[..(n_head + n_group) * k], &cos[angles.clone()], &sin[angles]);
        }
        let (n_slot, slot) = (row.n_slot, place % row.n_slot);
        let held = (place + 1).min(n_slot);
        let per_layer = layer * n_group * n_slot * k;
        for group in 0..n_group {
            let at = per_layer + (group * n_slot + slot) * k;
            let (key, value) = ((n_head + group) * k, (n_head + n_group + group) * k);
            row.keys[at..at + k].copy_from_slice(&room.qkv[key..key + k]);
            row.values[at..at + k].copy_from_slice(&room.qkv[value..value + k]);
        }
        room.context.resize(n_head * k, 0.0);
        let (queries, keys, values) = (&room.qkv, &row.keys, &row.values);
        let scale = config.scale() as f32;
        self.team.split(&mut room.context, k, &|first, part| {
            let mut scores = vec![0.0; held];
            for (n, out) in part.chunks_exact_mut(k).enumerate() {
                let head = first / k + n;
                let at = per_layer + head / (n_head / n_group) * n_slot * k;
                let query = &queries[head * k..(head + 1) * k];
                let held = at..at + held * k;
                attend_no_grad(query, &keys[held.clone()], &values[held], scale, &mut scores, out);
            }
        });
        match &block.output {
            Some(output) => {
                room.out.resize(config.d_model, 0.0);
                let context = &room.context;
                self.team
                    .split(&mut room.out, 4, &|first, part| rows_of(&[(output, 0)], context, first, part));
            }
            None => room.out.clone_from(&room.context),
        }
        join(config.block, &block.attention_norm, room);
    }

    /// The feed-forward sublayer of one token.
    fn feed_forward(&mut self, layer: usize, room: &mut Room) {
        let (config, block) = (self.config, &self.blocks[layer]);
        let Some((gate, up, down)) = &block.feed_forward else { return };
        if let (BlockKind::Pre, Some(norm)) = (config.block, &block.feed_forward_norm) {
            normed(norm, &room.x, &mut room.normed);
        } else {
            room.normed.clone_from(&room.x);
        }
        room.inner.resize(config.d_ff, 0.0);
        let x = &room.normed;
        self.team.split(&mut room.inner, 4, &|first, part| {
            rows_of(&[(up, 0)], x, first, part);
            match (config.feed_forward, gate) {
                (FeedForwardKind::Swiglu, Some(gate)) => {
                    let mut gates = vec![0.0; part.len()];
                    rows_of(&[(gate, 0)], x, first, &mut gates);
                    swiglu_no_grad(&gates, part);
                }
                (FeedForwardKind::Relu2, _) => relu2_no_grad(part),
                _ => gelu_tanh_no_grad(part),
            }
        });
        room.out.resize(config.d_model, 0.0);
        let inner = &room.inner;
        self.team.split(&mut room.out, 4, &|first, part| rows_of(&[(down, 0)], inner, first, part));
        join(config.block, &block.feed_forward_norm, room);
    }
}

/// `x + f`, `norm(x + f)` or `f`, as the block has it.
fn join(kind: BlockKind, norm: &Option<Norm>, room: &mut Room) {
    if kind == BlockKind::Bare {
        room.x.clone_from(&room.out);
        return;
    }
    room.x.iter_mut().zip(&room.out).for_each(|(x, out)| *x += out);
    if let (BlockKind::Post, Some(norm)) = (kind, norm) {
        normed(norm, &room.x, &mut room.normed);
        std::mem::swap(&mut room.x, &mut room.normed);
    }
}

/// Rows `first..first + part.len()` of matrices that stand one below the other, each from its own first row on.
fn rows_of(matrices: &[(&Linear, usize)], x: &[f32], first: usize, part: &mut [f32]) {
    let n_in = x.len();
    for (linear, offset) in matrices {
        let n_out = linear.weight.len / n_in;
        let from = first.max(*offset);
        let to = (first + part.len()).min(offset + n_out);
        if from < to {
            let rows = from - offset..to - offset;
            let weight = &linear.weight.get()[rows.start * n_in..rows.end * n_in];
            let bias = linear.bias.as_ref().map(|bias| &bias.get()[rows.clone()]);
            matvec_no_grad(weight, x, bias, &mut part[from - first..to - first]);
        }
    }
}

fn normed(norm: &Norm, x: &[f32], out: &mut Vec<f32>) {
    out.resize(x.len(), 0.0);
    match norm {
        Norm::Layer(weight, bias, eps) => layer_norm_no_grad(x, weight.get(), bias.get(), *eps, out),
        Norm::Rms(weight, eps) => rms_norm_no_grad(x, weight.get(), *eps, out),
    }
}

fn weight<'m>(model: &'m Transformer, name: &str) -> crate::Result<Weight<'m>> {
    let var = model.parameters().get(name)?;
    let (guard, layout) = var.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        return Err(crate::Error::MissingParameter(format!("{name} (in one piece)")));
    };
    Ok(Weight { start, len: end - start, guard: Box::new(guard) })
}

impl Weight<'_> {
    fn get(&self) -> &[f32] {
        match &**self.guard {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.start..self.start + self.len],
            // A decoder is made for float32 on the CPU alone.
            _ => &[],
        }
    }
}
