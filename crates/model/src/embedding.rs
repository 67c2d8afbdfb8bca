//! From token ids to vectors.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

use crate::config::{BlockKind, ModelConfig, Positions};
use crate::norm::Norm;
use crate::transformer::Weights;
use crate::{Input, Run};

/// The sum of a token's vector, its place's and its type's, each where the model has them.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    pub(crate) token: Tensor,
    position: Option<Tensor>,
    token_type: Option<Tensor>,
    norm: Option<Norm>,
    dropout: f64,
}

impl Embedding {
    pub(crate) fn new(config: &ModelConfig, weights: &Weights) -> crate::Result<Self> {
        let optional = |wanted: bool, name: &str| wanted.then(|| weights.get(name)).transpose();
        Ok(Self {
            token: weights.get("embedding.token.weight")?,
            position: optional(config.positions == Positions::Learned, "embedding.position.weight")?,
            token_type: optional(config.n_token_type > 0, "embedding.token_type.weight")?,
            norm: match config.block {
                BlockKind::Post => Norm::new(config, "embedding.norm", weights)?,
                BlockKind::Bare | BlockKind::Pre => None,
            },
            dropout: config.dropout,
        })
    }

    /// # Shape
    /// Ids `[b, t]` to `[b, t, d]`; `positions` `[b, t]`.
    pub(crate) fn forward(&self, input: &Input, positions: &Tensor, run: &Run) -> Result<Tensor> {
        let types = match &input.token_types {
            Some(types) => types.clone(),
            None => input.ids.zeros_like()?,
        };
        let mut tables = vec![(&input.ids, &self.token)];
        tables.extend(self.position.iter().map(|position| (positions, position)));
        tables.extend(self.token_type.iter().map(|token_type| (&types, token_type)));
        let mut x = ops::embedding_sum(&tables)?;
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        match run.dropout_at("embedding", 0, self.dropout) {
            Some(dropout) => ops::dropout(&x, &dropout),
            None => Ok(x),
        }
    }
}
