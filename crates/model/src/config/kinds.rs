//! The kinds of parts that a transformer is made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_ops::Activation;

/// How the norms and the residual stream are arranged around a block's two sublayers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// The context vectors themselves: no norm, no residual, no output projection.
    Bare,
    /// `x + f(norm(x))` ([Xiong et al. 2020](https://arxiv.org/abs/2002.04745)), with a norm after the last block.
    Pre,
    /// `norm(x + f(x))`, as in [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), with a norm after the embedding.
    Post,
    /// `x + norm(f(x))` ([OLMo team 2024](https://arxiv.org/abs/2501.00656), sec. 3.2), with a norm after the last block.
    Reordered,
    /// `x + norm'(f(norm(x)))` ([Ding et al. 2021](https://arxiv.org/abs/2105.13290), sec. 2.4), with a norm after the last block.
    Sandwich,
    /// `x + attention(norm(x)) + feed_forward(norm'(x))` ([Wang and Komatsuzaki 2021](https://github.com/kingoflolz/mesh-transformer-jax)),
    /// with a norm after the last block.
    Parallel,
    /// `x + attention(norm(x)) + feed_forward(norm(x))`: one norm for both, and one after the last block.
    ParallelShared,
}

impl BlockKind {
    /// Whether there is a norm after the last block.
    pub fn has_final_norm(self) -> bool {
        match self {
            Self::Bare | Self::Post => false,
            Self::Pre | Self::Reordered | Self::Sandwich | Self::Parallel | Self::ParallelShared => true,
        }
    }
}

/// The kind of normalization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// No norm.
    None,
    /// Layer norm with bias ([Ba et al. 2016](https://arxiv.org/abs/1607.06450)).
    Layer,
    /// Layer norm without bias.
    LayerNoBias,
    /// RMS norm ([Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)).
    Rms,
    /// RMS norm without a scale.
    RmsBare,
    /// RMS norm whose scale is 1 + w ([Gemma team 2024](https://arxiv.org/abs/2403.08295)).
    RmsPlusOne,
}

/// Which queries and keys are normalized together before they are rotated, by a norm of the model's kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// No norm.
    #[default]
    None,
    /// Those of each head, with one scale for all heads ([Dehghani et al. 2023](https://arxiv.org/abs/2302.05442)).
    Head,
    /// Those of all heads of a token.
    Whole,
}

/// The positional encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// None: order enters only through the causal mask.
    None,
    /// A learned vector per position, added to the token embedding.
    Learned,
    /// The same, but positions count the tokens that are not padding, from `pad_id + 1` on ([Liu et al. 2019](https://arxiv.org/abs/1907.11692)).
    Counted,
    /// Rotation of queries and keys ([Su et al. 2021](https://arxiv.org/abs/2104.09864)).
    Rotary,
}

/// The function of the second sublayer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedForwardKind {
    /// No second sublayer.
    None,
    /// `down(gelu(up(x)))` with the tanh form of GELU ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415)).
    GeluTanh,
    /// `down(gelu(up(x)))` with the exact form of GELU.
    GeluErf,
    /// `down(silu(gate(x)) · up(x))` ([Shazeer 2020](https://arxiv.org/abs/2002.05202)).
    Swiglu,
    /// `down(relu(up(x))²)` ([So et al. 2021](https://arxiv.org/abs/2109.08668)).
    Relu2,
    /// `down(relu(up(x)))` ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), eq. 2).
    Relu,
    /// `down(silu(up(x)))`.
    Silu,
    /// `down(gelu(gate(x)) · up(x))` with the tanh form of GELU ([Shazeer 2020](https://arxiv.org/abs/2002.05202)).
    GegluTanh,
    /// `down(gelu(gate(x)) · up(x))` with the exact form of GELU.
    GegluErf,
    /// `down(relu(gate(x)) · up(x))`.
    Reglu,
}

/// Which tokens a query may attend to, apart from padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaskKind {
    /// Itself and those before it.
    Causal,
    /// All of them.
    Full,
}

/// The output head: vocabulary logits, class logits, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Head {
    /// A projection to the vocabulary: the logits of the next token.
    NextToken,
    /// Dense, activation, layer norm, then a projection to the vocabulary with a bias: the logits of the token itself.
    MaskedToken,
    /// A projection of one vector per row to the labels, after the layers of [`ClassifierKind`].
    Classify {
        /// The number of labels.
        n_labels: usize,
    },
    /// None: the hidden states are the output.
    Hidden {
        /// Whether the folder contains a pooler, which is kept and saved again though nothing reads it.
        pooler: bool,
    },
}

impl Head {
    /// The number of a classifier's labels; `None` for other heads.
    pub fn n_labels(self) -> Option<usize> {
        match self {
            Self::Classify { n_labels } => Some(n_labels),
            Self::NextToken | Self::MaskedToken | Self::Hidden { .. } => None,
        }
    }
}

/// Which vector of a row a classifier reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The first token's vector.
    #[default]
    First,
    /// The mean over the tokens that are not padding.
    Mean,
    /// The vector of the last token that is not padding: whose id is not `pad_id`, if that is set.
    Last,
}

/// The layers of a classifier before its projection to the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierKind {
    /// Dense and tanh: BERT's pooler ([Devlin et al. 2019](https://arxiv.org/abs/1810.04805)).
    #[default]
    Pooler,
    /// Dense and ReLU ([Sanh et al. 2019](https://arxiv.org/abs/1910.01108)).
    Relu,
    /// The layers of the masked head: dense, activation, norm.
    Transform,
    /// Nothing; the projection has no bias.
    Plain,
}

impl FeedForwardKind {
    /// The activation (of the gate, if there is one); `None` without a feed-forward sublayer.
    pub fn activation(self) -> Option<Activation> {
        match self {
            Self::GeluTanh | Self::GegluTanh => Some(Activation::GeluTanh),
            Self::GeluErf | Self::GegluErf => Some(Activation::GeluErf),
            Self::Relu2 => Some(Activation::Relu2),
            Self::Relu | Self::Reglu => Some(Activation::Relu),
            Self::Swiglu | Self::Silu => Some(Activation::Silu),
            Self::None => None,
        }
    }

    /// Whether there is a gate in addition to `up`.
    pub fn is_gated(self) -> bool {
        match self {
            Self::Swiglu | Self::GegluTanh | Self::GegluErf | Self::Reglu => true,
            Self::None | Self::GeluTanh | Self::GeluErf | Self::Relu2 | Self::Relu | Self::Silu => false,
        }
    }

    /// The default feed-forward width: `4 d`, or with a gate `8/3 d` rounded up to a multiple of 8, which has about as
    /// many parameters.
    pub(crate) fn default_width(self, d_model: usize) -> usize {
        match self {
            Self::None => 0,
            gated if gated.is_gated() => (8 * d_model).div_ceil(3).next_multiple_of(8),
            _ => 4 * d_model,
        }
    }
}

/// An activation by name, where it differs from the feed-forward's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// GELU in its tanh form.
    GeluTanh,
    /// GELU in its exact form.
    GeluErf,
    /// `x σ(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
}

impl ActivationKind {
    /// The corresponding operation.
    pub fn activation(self) -> Activation {
        match self {
            Self::GeluTanh => Activation::GeluTanh,
            Self::GeluErf => Activation::GeluErf,
            Self::Silu => Activation::Silu,
            Self::Relu => Activation::Relu,
            Self::Relu2 => Activation::Relu2,
        }
    }
}
