//! The layers of a transformer and all their parameters, defined once.
//!
//! [`Layers`] is generic over its leaves. [`Layers::of`] describes every parameter of a config; everything else follows
//! from it by [`Layers::try_map`]: parameters drawn or read, the tensors of a [`crate::Transformer`], the weights of a
//! [`crate::Decoder`], counts and tables of names. A part that is missing from one of them doesn't compile.
//!
//! Legend: `v` vocabulary, `d` model width, `h` query heads, `g` key/value heads, `k` head width, `f` feed-forward
//! width, `c` context length. Projections are stored `[out, in]`.

mod attention;
mod block;
mod classifier;
mod context;
mod describe;
mod embedding;
mod feed_forward;
mod head;
mod norm;
mod relative;
mod residual;

use std::collections::BTreeSet;
use std::convert::Infallible;

pub use attention::Attention;
pub use block::Block;
pub use classifier::{ClassifierStep, Transform};
pub(crate) use context::Context;
pub use embedding::Embedding;
pub use feed_forward::FeedForward;
pub use head::HeadLayer;
pub use norm::Norm;
pub(crate) use relative::biases;
pub use residual::Residual;

use crate::adapter::AdapterSpec;
use crate::config::{LayerKind, ModelConfig};
use crate::spec::{Kind, Location, ParameterSpec, Part, Role};
use describe::Describe;

/// A transformer's layers, each parameter a `P`.
#[derive(Clone, Debug)]
pub struct Layers<P> {
    /// The embedding layer.
    pub embedding: Embedding<P>,
    /// The table of biases on the scores that all blocks share, `[rows, h]`.
    pub relative_bias: Option<P>,
    /// The blocks, in forward order.
    pub blocks: Vec<Block<P>>,
    /// The norm after the last block, of pre-norm models.
    pub norm: Option<Norm<P>>,
    /// The output head.
    pub head: HeadLayer<P>,
    /// The kinds of blocks; each block refers to its own by index.
    pub kinds: Vec<LayerKind>,
}

impl Layers<ParameterSpec> {
    /// The parameters of the model that `config` describes.
    ///
    /// Projections back into the residual stream of a pre-norm model are initialized smaller by `1 / sqrt(2 n_layer)`
    /// ([Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
    /// sec. 2.3), so that the stream's variance doesn't grow with depth.
    pub fn of(config: &ModelConfig) -> Self {
        Self::adapted(config, None)
    }

    /// The same with the parameters of an adapter, if any. Modules that share an A each contain it.
    pub fn adapted(config: &ModelConfig, adapter: Option<&AdapterSpec>) -> Self {
        let describe = Describe { config, adapter };
        let mut kinds: Vec<LayerKind> = Vec::new();
        let blocks = (0..config.n_layer).map(|layer| {
            let kind = config.layer_kind(layer);
            let number = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            Block::of(&describe, layer, number)
        });
        let blocks = blocks.collect();
        Self {
            embedding: Embedding::of(&describe),
            relative_bias: config.relative_bias.map(|rows| {
                let role =
                    Role { location: Location::Embedding, part: Part::Position, kind: Kind::Embedding };
                describe.weight("relative_bias.weight".into(), &[rows, config.n_head], 1.0, role)
            }),
            blocks,
            norm: config
                .block
                .has_final_norm()
                .then(|| describe.norm("norm", config.d_model, Location::FinalNorm))
                .flatten(),
            head: HeadLayer::of(&describe),
            kinds,
        }
    }
}

impl<P> Layers<P> {
    /// The same layers with `f` applied to each parameter, in forward order.
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(&'a self, f: &mut impl FnMut(&'a P) -> Result<Q, E>) -> Result<Layers<Q>, E> {
        let Self { embedding, relative_bias, blocks, norm, head, kinds } = self;
        Ok(Layers {
            embedding: embedding.try_map(f)?,
            relative_bias: relative_bias.as_ref().map(&mut *f).transpose()?,
            blocks: blocks.iter().map(|block| block.try_map(f)).collect::<Result<_, E>>()?,
            norm: norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            head: head.try_map(f)?,
            kinds: kinds.clone(),
        })
    }

    /// The index of the first block of a kind.
    pub fn first_of(&self, kind: usize) -> usize {
        self.blocks.iter().position(|block| block.kind == kind).unwrap_or(0)
    }

    /// Every parameter, in forward order.
    pub fn leaves(&self) -> Vec<&P> {
        let mut leaves = Vec::new();
        let Ok(_) = self.try_map(&mut |leaf| {
            leaves.push(leaf);
            Ok::<(), Infallible>(())
        });
        leaves
    }
}

/// Every parameter of the model that `config` describes, in forward order.
pub fn parameter_specs(config: &ModelConfig) -> Vec<ParameterSpec> {
    adapted_specs(config, None)
}

/// Every parameter of that model and of its adapter, if any, in forward order without duplicates.
pub fn adapted_specs(config: &ModelConfig, adapter: Option<&AdapterSpec>) -> Vec<ParameterSpec> {
    let mut seen = BTreeSet::new();
    let layers = Layers::adapted(config, adapter);
    layers.leaves().into_iter().filter(|spec| seen.insert(spec.name.as_str())).cloned().collect()
}

/// The number of elements of all parameters of the model that `config` describes.
pub fn n_parameters(config: &ModelConfig) -> usize {
    Layers::of(config).leaves().into_iter().map(ParameterSpec::numel).sum()
}
