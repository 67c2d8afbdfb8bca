//! A transformer's complete config, as plain numbers and enums.
//!
//! [`crate::ModelSection`] is what a person writes in `[model]`: a family and what differs from it. With the vocabulary
//! size and the objective's head it resolves to a [`ModelConfig`], in which nothing is left open.

mod check;
mod kinds;
mod rope;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use kinds::{
    ActivationKind, BlockKind, ClassifierKind, FeedForwardKind, Head, MaskKind, NormKind, Pooling, Positions,
    QkNorm,
};
use rope::pattern;
pub use rope::{LayerKind, LayerOverride, Rope, RopeScaling, ScalingKind};

/// Ranges of distances that have their own learned biases, half of them for keys after the query.
pub(crate) const N_BUCKET: usize = 32;

/// A preset: the architecture of a paper. Everything about a family is in its file in `families/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// One layer, one causal head, and nothing else: the model for a first explanation of attention.
    Fox,
    /// Pre-norm decoder with learned positions ([Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)).
    Gpt2,
    /// Post-norm encoder ([Devlin et al. 2019](https://arxiv.org/abs/1810.04805)).
    Bert,
    /// Pre-norm decoder with RMS norm, rotary positions and SwiGLU ([Touvron et al. 2023](https://arxiv.org/abs/2302.13971)).
    Llama,
    /// Llama with biases on queries, keys and values ([Qwen team 2024](https://arxiv.org/abs/2407.10671)).
    Qwen2,
    /// Llama with norms of queries and keys ([Qwen team 2025](https://arxiv.org/abs/2505.09388)).
    Qwen3,
    /// Llama with its norms after the branches ([OLMo team 2024](https://arxiv.org/abs/2501.00656)).
    Olmo2,
    /// Llama with layers that have no positions ([SmolLM team 2025](https://huggingface.co/blog/smollm3)).
    Smollm3,
    /// Llama with factors on embedding, branches, scores and logits ([Granite team 2024](https://github.com/ibm-granite/granite-3.0-language-models)).
    Granite,
    /// Attention and feed-forward in parallel, a part of each head rotated
    /// ([Black et al. 2022](https://arxiv.org/abs/2204.06745)).
    GptNeox,
    /// GPT-NeoX with one norm for both sublayers ([Li et al. 2023](https://arxiv.org/abs/2309.05463)).
    Phi,
    /// Windows on most layers, four norms per block, GeGLU ([Gemma team 2025](https://arxiv.org/abs/2503.19786)).
    #[serde(rename = "gemma3_text", alias = "gemma3")]
    Gemma3,
    /// BERT with counted positions and no pooler before its classifier ([Liu et al. 2019](https://arxiv.org/abs/1907.11692)).
    Roberta,
    /// RoBERTa for a hundred languages ([Conneau et al. 2020](https://arxiv.org/abs/1911.02116)).
    #[serde(rename = "xlm-roberta", alias = "xlm_roberta")]
    XlmRoberta,
    /// BERT without token types ([Sanh et al. 2019](https://arxiv.org/abs/1910.01108)).
    Distilbert,
    /// BERT with a learned bias for each distance ([Song et al. 2020](https://arxiv.org/abs/2004.09297)).
    Mpnet,
    /// Pre-norm encoder with rotary positions, windows and GeGLU ([Warner et al. 2024](https://arxiv.org/abs/2412.13663)).
    Modernbert,
}

/// Everything that decides a transformer's parameters and arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The preset that the rest came from; determines the layout on disk.
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
    /// How norms and residual are arranged.
    pub block: BlockKind,
    /// The kind of norm.
    pub norm: NormKind,
    /// Added to the variance under the norm's square root.
    pub norm_eps: f64,
    /// The positional encoding.
    pub positions: Positions,
    /// The padding's id, where positions are counted or a classifier reads the last token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_id: Option<u32>,
    /// Rows of a table of learned biases on the scores, one for each range of distances and each head, shared by all
    /// layers ([Raffel et al. 2020](https://arxiv.org/abs/1910.10683), sec. 2.1); the ranges take 32 of them. Absent =
    /// no such biases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_bias: Option<usize>,
    /// The base of the rotary frequencies: `theta_i = rope_theta^(-2i / r)` where r channels of a head are rotated.
    pub rope_theta: f64,
    /// The share of each head's channels that is rotated, beginning with the first.
    #[serde(default = "off::one", skip_serializing_if = "off::is_one")]
    pub rotary_fraction: f64,
    /// Scaling of the rotary frequencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// The second sublayer.
    pub feed_forward: FeedForwardKind,
    /// Which tokens a query may attend to.
    pub mask: MaskKind,
    /// With a window w, a query sees only keys nearer than w tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// A pattern of layers that repeats with depth: layer i takes entry i modulo the length; empty = all layers alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerOverride>,
    /// The factor on q·k if it is not `1 / sqrt(d_head)`; 1 leaves the scale out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_scale: Option<f64>,
    /// Which queries and keys are normalized together before they are rotated.
    #[serde(default, skip_serializing_if = "off::is_default")]
    pub qk_norm: QkNorm,
    /// Whether query, key, value and output projections have a bias.
    pub attention_bias: bool,
    /// Whether the output projection has one, if that differs from `attention_bias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_output_bias: Option<bool>,
    /// Whether the feed-forward projections have a bias.
    pub feed_forward_bias: bool,
    /// The factor on a sublayer's output before it is added to the residual stream.
    #[serde(default = "off::one", skip_serializing_if = "off::is_one")]
    pub residual_multiplier: f64,
    /// The factor on the sum of the embeddings.
    #[serde(default = "off::one", skip_serializing_if = "off::is_one")]
    pub embedding_scale: f64,
    /// Whether there is a norm after the embedding; absent = only with `block = "post"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_norm: Option<bool>,
    /// Whether the first block's attention reads the residual stream without a norm.
    #[serde(default, skip_serializing_if = "off::is_default")]
    pub skip_first_norm: bool,
    /// Whether the vocabulary head is the token embedding itself ([Press and Wolf 2017](https://arxiv.org/abs/1608.05859)).
    pub tied_head: bool,
    /// Number of token types (segments), each with a learned vector; 0 = none.
    pub n_token_type: usize,
    /// Whether the projection to the vocabulary has a bias; absent = only for masked tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_bias: Option<bool>,
    /// Whether the dense layer of the masked head or of a classifier has a bias.
    #[serde(default = "off::yes", skip_serializing_if = "off::is_yes")]
    pub head_dense_bias: bool,
    /// The activation of the masked head; absent = the feed-forward's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_activation: Option<ActivationKind>,
    /// The layers of a classifier before its projection.
    #[serde(default, skip_serializing_if = "off::is_default")]
    pub classifier: ClassifierKind,
    /// Which vector of a row a classifier reads.
    #[serde(default, skip_serializing_if = "off::is_default")]
    pub pooling: Pooling,
    /// The divisor of the logits.
    #[serde(default = "off::one", skip_serializing_if = "off::is_one")]
    pub logit_divisor: f64,
    /// Soft cap c on the logits: `c · tanh(logit / c)`; absent = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_softcap: Option<f64>,
    /// The output head.
    #[schemars(skip)]
    pub head: Head,
    /// The share of values set to zero in training ([Srivastava et al. 2014](https://jmlr.org/papers/v15/srivastava14a.html)).
    pub dropout: f64,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
    /// The factor on the standard deviation of the initial token embedding.
    #[serde(default = "off::one", skip_serializing_if = "off::is_one")]
    pub embedding_init: f64,
    /// The factor on the standard deviation of the vocabulary head's initial weights; 0 initializes it to zeros.
    #[serde(default = "off::one", skip_serializing_if = "off::is_one")]
    pub head_init: f64,
    /// The factor on the standard deviation of the initial weights of projections back into the residual stream; 0
    /// initializes them to zeros ([Zhang et al. 2019](https://arxiv.org/abs/1901.09321)). Absent =
    /// `1 / sqrt(2 n_layer)` in a pre-norm model, else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_init: Option<f64>,
    /// Every how many layers, counted back from the last, a learned vector per token is added to the values
    /// ([Zhou et al. 2024](https://arxiv.org/abs/2410.17897) use the first layer's values there); 0 = nowhere.
    #[serde(default, skip_serializing_if = "off::is_default")]
    pub value_embeddings: usize,
    /// Whether a learned vector for each pair of neighboring tokens is added to the embedding of the second: a table of
    /// (v + 1) · v rows, the last v of them for a row's first token, initialized to zeros.
    #[serde(default, skip_serializing_if = "off::is_default")]
    pub bigrams: bool,
}

/// One fault of a config: the key, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidKey {
    /// The dotted path of the faulty key, such as `model.n_head`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl ModelConfig {
    /// All contradictions in the config at once; empty if the model can be built.
    pub fn faults(&self) -> Vec<InvalidKey> {
        check::faults(self)
    }

    /// The same model with its layers' settings in canonical form, so that equal models compare equal.
    #[must_use]
    pub(crate) fn canonical(mut self) -> Self {
        if !self.faults().is_empty() {
            // Faults are reported in terms of the config as it was written.
            return self;
        }
        for layer in &mut self.layers {
            let LayerOverride { window, rope_theta, positions, rope_scaled } = layer;
            *window = window.filter(|_| *window != self.window);
            *rope_theta = rope_theta.filter(|theta| *theta != self.rope_theta);
            *positions = positions.filter(|own| *own != self.positions);
            *rope_scaled = rope_scaled.filter(|scaled| !scaled && self.rope_scaling.is_some());
            if *positions == Some(Positions::None) {
                (*rope_theta, *rope_scaled) = (None, None);
            }
        }
        self.layers = pattern(&self.layers);
        // (A model none of whose layers has positions is still one with rotary positions.)
        if let [LayerOverride { window, rope_theta, positions: None, rope_scaled }] = self.layers[..] {
            self.window = window.or(self.window);
            self.rope_theta = rope_theta.unwrap_or(self.rope_theta);
            self.rope_scaling = self.rope_scaling.filter(|_| rope_scaled != Some(false));
            self.layers.clear();
        }
        self
    }

    /// Whether layer `layer` adds a vector per token to its values.
    pub fn has_value_embedding(&self, layer: usize) -> bool {
        self.value_embeddings > 0 && (self.n_layer - 1 - layer).is_multiple_of(self.value_embeddings)
    }

    /// The factor on q·k: `1 / sqrt(d_head)` (Vaswani et al. 2017, eq. 1), unless the config sets another.
    pub fn scale(&self) -> f64 {
        self.attention_scale.unwrap_or_else(|| 1.0 / (self.d_head as f64).sqrt())
    }

    /// Width of the hidden states that the head reads: a bare block outputs its context vectors unprojected.
    pub fn d_hidden(&self) -> usize {
        if self.block == BlockKind::Bare { self.n_head * self.d_head } else { self.d_model }
    }

    /// The factor on the initial weights of projections back into the residual stream: `branch_init`, else
    /// `1 / sqrt(2 n_layer)` in a pre-norm model and 1 in others.
    pub fn residual_scale(&self) -> f64 {
        if let Some(factor) = self.branch_init {
            return factor;
        }
        match self.block {
            BlockKind::Pre | BlockKind::Parallel | BlockKind::ParallelShared => {
                (2.0 * self.n_layer as f64).sqrt().recip()
            }
            // A norm after the branch cancels it.
            BlockKind::Bare | BlockKind::Post | BlockKind::Reordered | BlockKind::Sandwich => 1.0,
        }
    }

    /// The number of channels of a head in the exponents of the rotary frequencies, `⌊d_head · rotary_fraction⌋`, and
    /// the number of channel pairs that are rotated (as in transformers' GPT-NeoX).
    pub fn rotary_widths(&self) -> (usize, usize) {
        let width = (self.d_head as f64 * self.rotary_fraction) as usize;
        (width, width.div_ceil(2))
    }

    /// Whether the forward pass depends on the padding's id: positions are counted, or a classifier reads the last
    /// token.
    pub fn goes_by_padding(&self) -> bool {
        let reads_last = matches!(self.head, Head::Classify { .. }) && self.pooling == Pooling::Last;
        // (MPNet's positions count from 1, whichever id its tokenizer uses for padding.)
        reads_last || self.positions == Positions::Counted && self.family != Family::Mpnet
    }

    /// Rows of the table of learned positions: counted positions begin after the padding's own.
    pub fn n_position(&self) -> usize {
        match (self.positions, self.pad_id) {
            (Positions::Counted, pad_id) => self.context_len + pad_id.map_or(0, |id| id as usize) + 1,
            (Positions::None | Positions::Learned | Positions::Rotary, _) => self.context_len,
        }
    }

    /// The kind of layer `layer`: the config's settings, unless the pattern overrides them there.
    pub fn layer_kind(&self, layer: usize) -> LayerKind {
        let own = self.layers.get(layer % self.layers.len().max(1)).copied().unwrap_or_default();
        let LayerOverride { window, rope_theta, positions, rope_scaled } = own;
        let rope = match positions.unwrap_or(self.positions) {
            Positions::Rotary => Some(Rope {
                theta: rope_theta.unwrap_or(self.rope_theta),
                scaling: self.rope_scaling.filter(|_| rope_scaled != Some(false)),
            }),
            Positions::None | Positions::Learned | Positions::Counted => None,
        };
        LayerKind { window: window.or(self.window), rope }
    }
}

/// Values that leave a setting off, and tests for them.
mod off {
    pub(super) fn one() -> f64 {
        1.0
    }

    pub(super) fn is_one(value: &f64) -> bool {
        *value == 1.0
    }

    pub(super) fn yes() -> bool {
        true
    }

    pub(super) fn is_yes(value: &bool) -> bool {
        *value
    }

    pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
        *value == T::default()
    }
}
