//! From token ids to vectors.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

use super::describe::Describe;
use super::norm::Norm;
use crate::config::{BlockKind, Positions};
use crate::input::Input;
use crate::probe::Site;
use crate::run::{Run, record_with};
use crate::spec::{Kind, Location, ParameterSpec, Part, Role};

/// The sum of a token's vector, its position's and its type's, each where the model has them, times a factor; then a
/// norm, where it has one.
#[derive(Clone, Debug)]
pub struct Embedding<P> {
    /// `[v, d]`.
    pub token: P,
    /// `[c, d]`.
    pub position: Option<P>,
    /// One row per token type.
    pub token_type: Option<P>,
    /// The factor on the sum.
    pub scale: f64,
    /// The norm of the sum.
    pub norm: Option<Norm<P>>,
    /// The share of the result that is set to zero in training.
    pub dropout: f64,
}

impl Embedding<ParameterSpec> {
    pub(super) fn of(describe: &Describe) -> Self {
        let c = describe.config;
        let table = |name: &str, rows: usize, part: Part| {
            let role = Role { location: Location::Embedding, part, kind: Kind::Embedding };
            describe.weight(format!("embedding.{name}.weight"), &[rows, c.d_model], 1.0, role)
        };
        Self {
            token: table("token", c.vocab_size, Part::Token),
            position: match c.positions {
                Positions::Learned | Positions::Counted => {
                    Some(table("position", c.n_position(), Part::Position))
                }
                Positions::None | Positions::Rotary => None,
            },
            token_type: (c.n_token_type > 0).then(|| table("token_type", c.n_token_type, Part::TokenType)),
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
        let Self { token, position, token_type, scale, norm, dropout } = self;
        Ok(Embedding {
            token: f(token)?,
            position: position.as_ref().map(&mut *f).transpose()?,
            token_type: token_type.as_ref().map(&mut *f).transpose()?,
            scale: *scale,
            norm: norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            dropout: *dropout,
        })
    }
}

impl Embedding<Tensor> {
    /// # Shape
    /// Ids `[b, t]` to `[b, t, d]`; `positions` `[b, t]`.
    pub(crate) fn forward(&self, input: &Input, positions: &Tensor, run: &mut Run) -> Result<Tensor> {
        let types = match &input.token_types {
            Some(types) => types.clone(),
            None => input.ids.zeros_like()?,
        };
        let mut tables = vec![(&input.ids, &self.token)];
        tables.extend(self.position.iter().map(|position| (positions, position)));
        tables.extend(self.token_type.iter().map(|token_type| (&types, token_type)));
        let Self { token, position, token_type, scale, norm, dropout: _ } = self;
        let vectors = |table: &Tensor, ids: &Tensor| ops::embedding_sum(&[(ids, table)]);
        record_with(run, Site::TokenVector, || vectors(token, &input.ids))?;
        if let Some(table) = position {
            record_with(run, Site::PositionVector, || vectors(table, positions))?;
        }
        if let Some(table) = token_type {
            record_with(run, Site::TypeVector, || vectors(table, &types))?;
        }
        let mut x = ops::embedding_sum(&tables)?;
        if *scale != 1.0 {
            x = x.affine(*scale, 0.0)?;
        }
        run.record(Site::EmbeddingSum, &x);
        if let Some(norm) = norm {
            x = norm.apply(&x)?;
        }
        match run.dropout_at("embedding", 0, self.dropout) {
            Some(dropout) => ops::dropout(&x, &dropout),
            None => Ok(x),
        }
    }
}
