//! GGUF keys that describe a model: `general.` ones, then those prefixed with the architecture's name.

use crate::config::NormKind;

/// The architecture's name.
pub const ARCHITECTURE: &str = "general.architecture";
/// The kind of file: a model or an adapter.
pub const TYPE: &str = "general.type";
/// The settings that llama.cpp has no keys for, as a JSON object of config keys.
pub const UNSAID: &str = "vulpes.config";

/// Number of blocks.
pub const BLOCKS: &str = "block_count";
/// Context length, in tokens.
pub const CONTEXT: &str = "context_length";
/// Width of the hidden states.
pub const WIDTH: &str = "embedding_length";
/// Width inside the feed-forward sublayer.
pub const FEED_FORWARD: &str = "feed_forward_length";
/// Number of query heads.
pub const HEADS: &str = "attention.head_count";
/// Number of key and value heads.
pub const KV_HEADS: &str = "attention.head_count_kv";
/// Size of the vocabulary.
pub const VOCABULARY: &str = "vocab_size";
/// Width of a key head.
pub const KEY_WIDTH: &str = "attention.key_length";
/// Width of a value head.
pub const VALUE_WIDTH: &str = "attention.value_length";
/// Whether attention is causal.
pub const CAUSAL: &str = "attention.causal";
/// Whether attention and feed-forward run in parallel.
pub const PARALLEL: &str = "use_parallel_residual";
/// Number of channels per head that are rotated.
pub const ROPE_WIDTH: &str = "rope.dimension_count";
/// The base of the rotary frequencies.
pub const ROPE_BASE: &str = "rope.freq_base";
/// The kind of RoPE scaling.
pub const ROPE_SCALING: &str = "rope.scaling.type";
/// The factor of RoPE scaling.
pub const ROPE_FACTOR: &str = "rope.scaling.factor";
/// The rotary base of layers with a window.
pub const LOCAL_BASE: &str = "rope.freq_base_swa";
/// The width of the attention window.
pub const WINDOW: &str = "attention.sliding_window";
/// Which layers have a window.
pub const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
/// The scale of the scores q·k.
pub const SCORE_SCALE: &str = "attention.scale";
/// The scale of the embeddings.
pub const EMBEDDING_SCALE: &str = "embedding_scale";
/// The scale of a sublayer's output before the residual add.
pub const RESIDUAL_SCALE: &str = "residual_scale";
/// The divisor of the logits.
pub const LOGIT_SCALE: &str = "logit_scale";
/// The soft cap of the logits.
pub const LOGIT_CAP: &str = "final_logit_softcapping";
/// Number of experts per block.
pub const EXPERTS: &str = "expert_count";
/// How a text's vector is pooled: one of the values below.
pub const POOLING: &str = "pooling_type";
/// A classifier's labels.
pub const LABELS: &str = "classifier.output_labels";

/// `llama_pooling_type` of llama.h: the mean.
pub const MEAN: usize = 1;
/// The first token's vector.
pub const FIRST: usize = 2;
/// The last token's vector.
pub const LAST: usize = 3;
/// A classifier.
pub const RANK: usize = 4;

/// The key of a norm's epsilon.
pub fn norm_epsilon(norm: NormKind) -> &'static str {
    match norm {
        NormKind::Rms | NormKind::RmsBare | NormKind::RmsPlusOne => "attention.layer_norm_rms_epsilon",
        NormKind::None | NormKind::Layer | NormKind::LayerNoBias => "attention.layer_norm_epsilon",
    }
}
