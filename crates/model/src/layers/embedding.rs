//! The embedding layer: from token ids to vectors.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Adapter};

use super::describe::Describe;
use super::norm::Norm;
use crate::adapter::TOKEN;
use crate::config::{BlockKind, Positions};
use crate::input::Input;
use crate::pass::{Pass, record_with};
use crate::probe::Site;
use crate::spec::{Kind, Location, ParameterSpec, Part, Role};

/// The sum of the vectors of a token, its position and its type, each if the model has it, times a factor; then an
/// optional norm.
#[derive(Clone, Debug)]
pub struct Embedding<P> {
    /// `[v, d]`.
    pub token: P,
    /// A low-rank change of it: A `[r, v]`, B `[d, r]`.
    pub token_adapter: Option<Adapter<P>>,
    /// `[c, d]`.
    pub position: Option<P>,
    /// One row per token type.
    pub token_type: Option<P>,
    /// One row for each pair of neighboring tokens, `[(v + 1) · v, d]`: row `p · v + i` for i after p.
    pub bigram: Option<P>,
    /// The factor on the sum.
    pub scale: f64,
    /// The norm of the sum.
    pub norm: Option<Norm<P>>,
    /// The dropout probability on the result in training.
    pub dropout: f64,
}

impl Embedding<ParameterSpec> {
    pub(super) fn of(describe: &Describe) -> Self {
        let c = describe.config;
        let table = |name: &str, rows: usize, part: Part, scale: f64| {
            let role = Role { location: Location::Embedding, part, kind: Kind::Embedding };
            describe.weight(format!("embedding.{name}.weight"), &[rows, c.d_model], scale, role)
        };
        let role = Role { location: Location::Embedding, part: Part::Token, kind: Kind::Embedding };
        Self {
            token: table("token", c.vocab_size, Part::Token, c.embedding_init),
            token_adapter: describe.adapter(TOKEN, (c.d_model, c.vocab_size), role),
            position: match c.positions {
                Positions::Learned | Positions::Counted => {
                    Some(table("position", c.n_position(), Part::Position, 1.0))
                }
                Positions::None | Positions::Rotary => None,
            },
            token_type: (c.n_token_type > 0)
                .then(|| table("token_type", c.n_token_type, Part::TokenType, 1.0)),
            bigram: c.bigrams.then(|| table("bigram", (c.vocab_size + 1) * c.vocab_size, Part::Pair, 0.0)),
            scale: c.embedding_scale,
            norm: c
                .embedding_norm
                .unwrap_or(c.block == BlockKind::Post)
                .then(|| describe.norm("embedding.norm", c.d_model, Location::Embedding))
                .flatten(),
            dropout: c.dropout,
        }
    }
}

impl<P> Embedding<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Embedding<Q>, E> {
        let Self { token, token_adapter, position, token_type, bigram, scale, norm, dropout } = self;
        Ok(Embedding {
            token: f(token)?,
            token_adapter: token_adapter.as_ref().map(|adapter| adapter.try_map(f)).transpose()?,
            position: position.as_ref().map(&mut *f).transpose()?,
            token_type: token_type.as_ref().map(&mut *f).transpose()?,
            bigram: bigram.as_ref().map(&mut *f).transpose()?,
            scale: *scale,
            norm: norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            dropout: *dropout,
        })
    }
}

impl Embedding<Tensor> {
    /// # Shape
    /// Ids `[b, t]` to `[b, t, d]`; `positions` `[b, t]`.
    pub(crate) fn forward(&self, input: &Input, positions: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let types = match &input.token_types {
            Some(types) => types.clone(),
            None => input.ids.zeros_like()?,
        };
        let mut tables = vec![(&input.ids, &self.token)];
        tables.extend(self.position.iter().map(|position| (positions, position)));
        tables.extend(self.token_type.iter().map(|token_type| (&types, token_type)));
        let Self { token, token_adapter, position, token_type, bigram, scale, norm, dropout: _ } = self;
        let vectors = |table: &Tensor, ids: &Tensor| ops::embedding_sum(&[(ids, table)]);
        let pairs = bigram.as_ref().map(|_| pairs(input, token.dim(0)?, pass)).transpose()?;
        if let (Some(table), Some(pairs)) = (bigram, &pairs) {
            record_with(pass, Site::PairVector, || vectors(table, pairs))?;
            tables.push((pairs, table));
        }
        record_with(pass, Site::TokenVector, || vectors(token, &input.ids))?;
        if let Some(table) = position {
            record_with(pass, Site::PositionVector, || vectors(table, positions))?;
        }
        if let Some(table) = token_type {
            record_with(pass, Site::TypeVector, || vectors(table, &types))?;
        }
        let mut x = ops::embedding_sum(&tables)?;
        if let Some(Adapter { a, b, magnitude: _, scale, draw: _ }) = token_adapter {
            // Rows of s · (B A)ᵀ.
            let low = ops::linear(&ops::embedding(&input.ids, &a.t()?)?, b, None)?;
            x = (x + low.affine(*scale, 0.0)?)?;
        }
        if *scale != 1.0 {
            x = x.affine(*scale, 0.0)?;
        }
        pass.record(Site::EmbeddingSum, &x);
        if let Some(norm) = norm {
            x = norm.apply(&x)?;
        }
        match pass.dropout_at("embedding", 0, self.dropout) {
            Some(dropout) => ops::dropout(&x, &dropout),
            None => Ok(x),
        }
    }
}

/// The row of each token's bigram: `p · v + i` for token i after token p, and `v · v + i` if nothing precedes it: at
/// the start of a row or a document, and after padding.
///
/// # Shape
/// `[b, t]`.
fn pairs(input: &Input, v: usize, pass: &mut Pass) -> Result<Tensor> {
    let (rows, len) = input.ids.dims2()?;
    let ids: Vec<Vec<u32>> = input.ids.to_vec2()?;
    let before = pass.cache.as_mut().map(|cache| cache.take_over_last(&ids)).unwrap_or_default();
    let held = input.padding_mask.as_ref().map_or(len, |padding_mask| padding_mask.len() / rows.max(1));
    let mut pairs = Vec::with_capacity(rows * len);
    for (row, ids) in ids.iter().enumerate() {
        let is_kept = |at: usize| {
            input.padding_mask.as_ref().is_none_or(|mask| mask[row * held + held - len + at] != 0)
        };
        let is_joined = |at: usize| {
            let own =
                |segments: &std::sync::Arc<[u32]>| segments[row * len + at] == segments[row * len + at - 1];
            input.segments.as_ref().is_none_or(own)
        };
        for (at, &id) in ids.iter().enumerate() {
            let last = match at {
                0 => before.get(row).copied().flatten().filter(|_| {
                    let padding_mask = input.padding_mask.as_ref().filter(|_| held > len);
                    padding_mask.is_none_or(|mask| mask[row * held + held - len - 1] != 0)
                }),
                _ => Some(ids[at - 1]).filter(|_| is_kept(at - 1) && is_joined(at)),
            };
            pairs.push(last.map_or(v, |last| last as usize) as u32 * v as u32 + id);
        }
    }
    Tensor::from_vec(pairs, (rows, len), input.ids.device())
}
