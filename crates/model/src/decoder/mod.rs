//! Decoding on the CPU without tensors or autograd, at the speed of reading the weights.
//!
//! [`Decoder::read`] takes the next tokens of any number of rows: one each during generation, hundreds of one row while
//! its prompt is read. Each weight is read once for all of them, and each token's values are bit-identical to those
//! that it has alone, on any number of threads. The decoder of a [`Transformer`] computes with its float32 weights
//! ([`Transformer::forward`] reads the prompt, and the decoder takes over its [`KvCache`]); that of
//! [`crate::folder::load_decoder`] reads float32 weights in the mapped file, or owns weights in a smaller type and keeps
//! keys and values in bfloat16.

mod angles;
mod feed;
mod room;
mod row;
mod sublayers;
mod weights;

use candle_core::{DType, Device, Result, bail};
use vulpes_ops::decode::{Side, Team, project_no_grad};

pub use feed::{Feed, Wanted};
pub use row::DecoderRow;
pub(crate) use weights::Weights;

use crate::cache::KvCache;
use crate::config::{BlockKind, MaskKind, ModelConfig, Positions};
use crate::layers::{Block, Embedding, HeadLayer, Layers};
use crate::rotary::Rotary;
use crate::transformer::Transformer;
use angles::Angles;
use room::{Room, Token, add, multiply, normalize};

/// A model that continues rows of tokens.
///
/// The decoder of a [`Transformer`] holds read locks on every parameter while it lives: an optimizer's in-place step
/// waits until it is dropped, on the same thread forever.
pub struct Decoder<'m> {
    config: ModelConfig,
    layers: Layers<Weights<'m>>,
    /// The rotary angles of each kind of layer.
    rotary: Vec<Option<Angles>>,
    team: Team,
    room: Room,
    /// Whether keys and values are kept in bfloat16.
    halves: bool,
}

/// The number of prompt tokens that are read at once.
const CHUNK: usize = 256;

/// Whether a decoder supports such layers: no mask that looks ahead, no token types, no bigram or value embeddings, no
/// biases on the scores, no counted positions, and no head other than the next token's.
fn fits<P>(config: &ModelConfig, layers: &Layers<P>) -> bool {
    let Embedding {
        token: _,
        token_adapter: _,
        position: _,
        token_type,
        bigram,
        scale: _,
        norm: _,
        dropout: _,
    } = &layers.embedding;
    let adds_values = layers.blocks.iter().any(|block| block.attention.value_embedding.is_some());
    matches!(&layers.head, HeadLayer::Vocabulary { transform: None, .. })
        && token_type.is_none()
        && bigram.is_none()
        && !adds_values
        && layers.relative_bias.is_none()
        && config.mask == MaskKind::Causal
        && config.positions != Positions::Counted
}

impl<'m> Decoder<'m> {
    /// The decoder of a model on a team of `threads`. `None` if it is not supported: on another device, in another
    /// dtype than float32, with a mask that looks ahead, token types, biases on the scores, bigram or value embeddings,
    /// counted positions, an adapter that isn't merged, or another head than the next token's.
    ///
    /// # Errors
    /// Returns an error if a rotary table can't be read.
    pub fn new(model: &'m Transformer, threads: usize) -> crate::error::Result<Option<Self>> {
        let (config, layers) = (model.config(), model.layers());
        let is_whole = model.adapter().is_none();
        if !is_whole || !fits(config, layers) || !layers.leaves().into_iter().all(Weights::takes) {
            return Ok(None);
        }
        Ok(Some(Self {
            config: config.clone(),
            layers: layers.try_map(&mut Weights::of)?,
            rotary: model
                .rotary_tables()
                .map(|table| table.map(Angles::of).transpose())
                .collect::<Result<_>>()?,
            team: Team::new(threads),
            room: Room::default(),
            halves: false,
        }))
    }

    /// The config of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A row that has read nothing.
    pub fn empty_row(&self) -> DecoderRow {
        DecoderRow::empty(&self.config, self.halves)
    }

    /// Copies the keys and values that row `row` of a cache holds.
    ///
    /// # Errors
    /// Returns an error if the cache is empty or belongs to another model.
    pub fn take_over(&self, cache: &KvCache, row: usize) -> Result<DecoderRow> {
        DecoderRow::of_cache(&self.config, cache, row)
    }

    /// Reads one more token of a row, and returns the logits of what comes next.
    ///
    /// # Errors
    /// As [`Decoder::read`].
    pub fn step(&mut self, row: &mut DecoderRow, id: u32) -> Result<&[f32]> {
        self.read(&mut [Feed { row, ids: &[id], wanted: Wanted::Last }])
    }

    /// Reads a row's next tokens in large chunks, and returns the logits of what comes after them.
    ///
    /// # Errors
    /// As [`Decoder::read`].
    pub fn read_prompt(&mut self, row: &mut DecoderRow, ids: &[u32]) -> Result<&[f32]> {
        let n_before = ids.len().saturating_sub(1) / CHUNK * CHUNK;
        for ids in ids[..n_before].chunks(CHUNK) {
            self.read(&mut [Feed { row, ids, wanted: Wanted::None }])?;
        }
        self.read(&mut [Feed { row, ids: &ids[n_before..], wanted: Wanted::Last }])
    }

    /// Reads the next tokens of each row, and returns the requested logits one after another, in the order of the
    /// feeds. Each is bit-identical to that of the row read alone, token by token.
    ///
    /// # Errors
    /// Returns an error if an id is outside the vocabulary or a row has no room for its tokens; then no row has read
    /// anything.
    pub fn read(&mut self, feeds: &mut [Feed<'_>]) -> Result<&[f32]> {
        let Self { config, layers, rotary, team, room, halves: _ } = self;
        let mut tokens = Vec::new();
        let mut asked = Vec::new();
        for (number, Feed { row, ids, wanted }) in feeds.iter().enumerate() {
            for (n, &id) in ids.iter().enumerate() {
                let position = row.n_seen + n;
                if id as usize >= config.vocab_size || position >= config.context_len {
                    bail!(
                        "token {id} at position {position}: the model has {} tokens and {} positions",
                        config.vocab_size,
                        config.context_len
                    );
                }
                if *wanted == Wanted::All || (*wanted == Wanted::Last && n + 1 == ids.len()) {
                    asked.push(tokens.len());
                }
                tokens.push(Token { feed: number, position, id });
            }
        }
        let Layers { embedding, relative_bias: _, blocks, norm, head, kinds: _ } = &*layers;
        let Embedding {
            token,
            token_adapter: _,
            position: positions,
            token_type: _,
            bigram: _,
            scale,
            norm: embedding_norm,
            dropout: _,
        } = embedding;
        let d = config.d_model;
        room.d = d;
        room.x.resize(tokens.len() * d, 0.0);
        let mut place = vec![0.0; if positions.is_some() { d } else { 0 }];
        for (x, of) in room.x.chunks_exact_mut(d).zip(&tokens) {
            token.row(of.id as usize, x);
            if let Some(positions) = positions {
                positions.row(of.position, &mut place);
                add(x, &place);
            }
        }
        if *scale != 1.0 {
            multiply(&mut room.x, *scale);
        }
        normalize(embedding_norm.as_ref(), &mut room.x, &mut room.normed, team);
        for (number, block) in blocks.iter().enumerate() {
            let angles = rotary[block.kind].as_ref();
            let Block { layer: _, kind: _, form, attention, feed_forward: inner } = block;
            let parallel = matches!(form, BlockKind::Parallel | BlockKind::ParallelShared);
            if parallel {
                room.block.clone_from(&room.x);
            }
            sublayers::attend(attention, angles, (feeds, &tokens), number, team, room);
            if let Some(inner) = inner {
                if parallel {
                    // The feed-forward reads what attention has read, and adds to attention's output.
                    std::mem::swap(&mut room.x, &mut room.block);
                }
                sublayers::before(inner.residual.before.as_ref().or(block.shared_norm()), team, room);
                if parallel {
                    std::mem::swap(&mut room.x, &mut room.block);
                }
                sublayers::feed_forward(inner, team, room);
            }
        }
        for Feed { row, ids, wanted: _ } in feeds {
            row.n_seen += ids.len();
        }
        let HeadLayer::Vocabulary { transform: _, weight, bias, divisor, softcap } = head else {
            bail!("a decoder computes next-token logits only");
        };
        room.out.clear();
        asked.iter().for_each(|&at| room.out.extend_from_slice(&room.x[at * d..(at + 1) * d]));
        normalize(norm.as_ref(), &mut room.out, &mut room.normed, team);
        if *divisor != 1.0 {
            multiply(&mut room.out, divisor.recip());
        }
        room.logits.resize(asked.len() * config.vocab_size, 0.0);
        let weight = weight.as_ref().unwrap_or(token).matrix();
        let side = Side { weight, bias: bias.as_ref().map(Weights::get) };
        project_no_grad(&[side], &room.out, d, &mut room.logits, &mut room.inputs, team);
        if let Some(cap) = softcap {
            let cap = *cap as f32;
            room.logits.iter_mut().for_each(|logit| *logit = (*logit / cap).tanh() * cap);
        }
        Ok(&room.logits)
    }
}

impl Decoder<'static> {
    /// Whether [`Decoder::own`] takes models of this config.
    pub(crate) fn supports(config: &ModelConfig) -> bool {
        fits(config, &Layers::of(config))
    }

    /// A decoder of a supported config that owns its weights, and keeps keys and values in bfloat16 if `halves`.
    ///
    /// # Errors
    /// Returns an error if a rotary table can't be computed.
    pub(crate) fn own(
        config: &ModelConfig,
        layers: Layers<Weights<'static>>,
        team: Team,
        halves: bool,
    ) -> Result<Self> {
        let angles = |kind: &crate::config::LayerKind| {
            let table = |rope| Angles::of(Rotary::new(config, rope, DType::F32, &Device::Cpu)?.table());
            kind.rope.as_ref().map(table).transpose()
        };
        let rotary = layers.kinds.iter().map(angles).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), layers, rotary, team, room: Room::default(), halves })
    }
}

#[cfg(test)]
mod tests;
