//! What a transformer is made of, in plain numbers and enums.
//!
//! [`crate::ModelSection`] is what a person writes in `[model]`: a family and whatever differs from it. With the vocabulary
//! and the objective's head it resolves to a [`ModelConfig`], in which nothing is left open.

mod check;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_ops::Activation;

/// A preset: the architecture that a paper gave a name. All of a family is in its file in `families/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// One layer, one causal head, and nothing else: the model of attention's first explanation.
    Fox,
    /// Pre-norm decoder with learned positions ([Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)).
    Gpt2,
    /// Post-norm encoder ([Devlin et al. 2019](https://arxiv.org/abs/1810.04805)).
    Bert,
    /// Pre-norm decoder with RMS norm, rotary positions and SwiGLU ([Touvron et al. 2023](https://arxiv.org/abs/2302.13971)).
    Llama,
}

/// Where a block's two sublayers stand between norm and residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// The context vectors themselves: no norm, no residual, no output projection.
    Bare,
    /// `x + f(norm(x))` ([Xiong et al. 2020](https://arxiv.org/abs/2002.04745)), with a norm after the last block.
    Pre,
    /// `norm(x + f(x))`, as in [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), with a norm after the embedding.
    Post,
}

/// The kind of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// None at all.
    None,
    /// Layer norm with bias ([Ba et al. 2016](https://arxiv.org/abs/1607.06450)).
    Layer,
    /// RMS norm ([Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)).
    Rms,
}

/// How a token's place becomes known to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Not at all: the model sees a bag of earlier words.
    None,
    /// A learned vector a position, added to the token's.
    Learned,
    /// Rotation of queries and keys ([Su et al. 2021](https://arxiv.org/abs/2104.09864)).
    Rotary,
}

/// What the second sublayer computes.
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
}

/// Which tokens a query may look at, padding apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MaskKind {
    /// Itself and those before it.
    Causal,
    /// All of them.
    Full,
}

/// What stands on the last hidden state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Head {
    /// A projection to the vocabulary: the logits of the next token.
    NextToken,
    /// Dense, activation, layer norm, then a projection to the vocabulary with a bias: the logits of the token itself.
    MaskedToken,
    /// Dense and tanh on the first token (the pooler), then a projection to the labels.
    Classify {
        /// How many labels there are.
        n_labels: usize,
    },
    /// Nothing: the hidden states are what is wanted.
    Hidden {
        /// Whether the folder brings a pooler, which is kept and saved again though nothing reads it.
        pooler: bool,
    },
}

impl Head {
    /// How many labels a classifier tells apart; `None` where the head is another one.
    pub fn n_labels(self) -> Option<usize> {
        match self {
            Self::Classify { n_labels } => Some(n_labels),
            Self::NextToken | Self::MaskedToken | Self::Hidden { .. } => None,
        }
    }
}

/// Stretching of the rotary frequencies to longer contexts, as Llama 3.1 defines it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// How much the slow frequencies are slowed.
    pub factor: f64,
    /// Wavelengths above `original_context_len / low_freq_factor` are slowed in full.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context_len / high_freq_factor` are kept.
    pub high_freq_factor: f64,
    /// The context length that the model was first trained on, in tokens.
    pub original_context_len: usize,
}

/// What a layer of the pattern has otherwise than the rest of the config says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerOverride {
    /// The layer's own window; absent = the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The layer's own base of the rotary frequencies; absent = the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// `none` for a layer that doesn't rotate its queries and keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
}

/// What a layer shares with the other layers of its kind: which keys its queries see, and how they are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerKind {
    /// With a window w, a query sees only keys nearer than w tokens.
    pub window: Option<usize>,
    /// The rotation of queries and keys; `None` = none.
    pub rope: Option<Rope>,
}

/// Which angles rotary positions turn by: `theta_i = base^(-2i / d_head)`, scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Their scaling to longer contexts.
    pub scaling: Option<RopeScaling>,
}

/// Everything that decides a transformer's parameters and arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The preset that the rest came from; decides the layout on disk.
    pub family: Family,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key and value heads; each serves `n_head / n_kv_head` query heads ([Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)).
    pub n_kv_head: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Width of one head.
    pub d_head: usize,
    /// Width inside the feed-forward sublayer.
    pub d_ff: usize,
    /// The longest row, in tokens.
    pub context_len: usize,
    /// Where norm and residual stand.
    pub block: BlockKind,
    /// The kind of norm.
    pub norm: NormKind,
    /// Added to the variance under the norm's square root.
    pub norm_eps: f64,
    /// How places become known.
    pub positions: Positions,
    /// The base of the rotary frequencies: `theta_i = rope_theta^(-2i / d_head)`.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// The second sublayer.
    pub feed_forward: FeedForwardKind,
    /// Which tokens a query may look at.
    pub mask: MaskKind,
    /// With a window w, a query sees only keys nearer than w tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// A pattern of layers that repeats with depth: layer i takes entry i modulo their number; empty = all layers alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerOverride>,
    /// The factor on q·k where it is not `1 / sqrt(d_head)`; 1 leaves the scale out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_scale: Option<f64>,
    /// Whether query, key, value and output projections have a bias.
    pub attention_bias: bool,
    /// Whether the feed-forward projections have a bias.
    pub feed_forward_bias: bool,
    /// Whether the vocabulary head is the token embedding itself ([Press and Wolf 2017](https://arxiv.org/abs/1608.05859)).
    pub tied_head: bool,
    /// Number of token types (segments), each with a learned vector; 0 = none.
    pub n_token_type: usize,
    /// What stands on the last hidden state.
    #[schemars(skip)]
    pub head: Head,
    /// The share of values set to zero in training ([Srivastava et al. 2014](https://jmlr.org/papers/v15/srivastava14a.html)).
    pub dropout: f64,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
}

/// One fault of a config: which key, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The dotted path of the key to blame, as `model.n_head`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl ModelConfig {
    /// All that contradicts itself in these numbers, at once; empty when the model can be built.
    pub fn faults(&self) -> Vec<Fault> {
        check::faults(self)
    }

    /// The factor on q·k: `1 / sqrt(d_head)` (Vaswani et al. 2017, eq. 1), unless the config gives another.
    pub fn scale(&self) -> f64 {
        self.attention_scale.unwrap_or_else(|| 1.0 / (self.d_head as f64).sqrt())
    }

    /// Width of the hidden states that the head reads: a bare block hands on its context vectors as they are.
    pub fn d_hidden(&self) -> usize {
        if self.block == BlockKind::Bare { self.n_head * self.d_head } else { self.d_model }
    }

    /// The factor on the initial weights of projections back into the residual stream: `1 / sqrt(2 n_layer)` in a
    /// pre-norm model, else 1.
    pub fn residual_scale(&self) -> f64 {
        match self.block {
            BlockKind::Pre => (2.0 * self.n_layer as f64).sqrt().recip(),
            BlockKind::Bare | BlockKind::Post => 1.0,
        }
    }

    /// The kind of layer `layer`: the config's own settings, unless the pattern has others there.
    pub fn layer_kind(&self, layer: usize) -> LayerKind {
        let own = self.layers.get(layer % self.layers.len().max(1)).copied().unwrap_or_default();
        let LayerOverride { window, rope_theta, positions } = own;
        let rope = match positions.unwrap_or(self.positions) {
            Positions::Rotary => {
                Some(Rope { theta: rope_theta.unwrap_or(self.rope_theta), scaling: self.rope_scaling })
            }
            Positions::None | Positions::Learned => None,
        };
        LayerKind { window: window.or(self.window), rope }
    }
}

impl FeedForwardKind {
    /// The activation: of the gate, where there is one; `None` where there is no feed-forward.
    pub fn activation(self) -> Option<Activation> {
        match self {
            Self::GeluTanh => Some(Activation::GeluTanh),
            Self::GeluErf => Some(Activation::GeluErf),
            Self::Relu2 => Some(Activation::Relu2),
            Self::Swiglu => Some(Activation::Silu),
            Self::None => None,
        }
    }

    /// Whether there is a gate beside `up`.
    pub fn is_gated(self) -> bool {
        match self {
            Self::Swiglu => true,
            Self::None | Self::GeluTanh | Self::GeluErf | Self::Relu2 => false,
        }
    }

    /// The feed-forward width where none is given: `4 d`, or for a gated one `8/3 d` rounded up to a multiple of 8,
    /// which has about as many parameters.
    pub(super) fn default_width(self, d_model: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Swiglu => (8 * d_model).div_ceil(3).next_multiple_of(8),
            Self::GeluTanh | Self::GeluErf | Self::Relu2 => 4 * d_model,
        }
    }
}
