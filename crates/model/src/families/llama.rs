//! Llama: preset and folders, `LlamaForCausalLM`, `LlamaForSequenceClassification` and `LlamaModel`.

use serde_json::json;

use super::base::off;
use super::decoder::LlamaLike;
use super::heads::Classes;
use super::names::Names;
use super::{About, Definition, Folder};
use crate::config::{ClassifierKind, Family, FeedForwardKind, ModelConfig, NormKind, Pooling, Positions};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "llama",
        about: ABOUT,
        names: NAMES,
        read: |reading| LIKE.read(reading),
        write: |config| {
            let mut object = LIKE.write(config)?;
            object.insert("pretraining_tp".into(), json!(1));
            Some(object)
        },
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["LlamaForCausalLM", "LlamaForSequenceClassification", "LlamaModel"],
    says: "gated by `silu`, `gelu`, its tanh form or `relu`; fewer key/value heads; `head_dim`; `rope_type` `default`, `linear` or `llama3`; biases; tied or untied head",
};

/// The preset: what a config has by default.
pub(super) fn preset() -> ModelConfig {
    ModelConfig {
        vocab_size: 32_000,
        d_ff: 2048,
        context_len: 2048,
        norm: NormKind::Rms,
        positions: Positions::Rotary,
        feed_forward: FeedForwardKind::Swiglu,
        attention_bias: false,
        feed_forward_bias: false,
        tied_head: false,
        classifier: ClassifierKind::Plain,
        pooling: Pooling::Last,
        ..off(Family::Llama)
    }
}

/// The defaults of `config.json`.
pub(super) fn silent() -> ModelConfig {
    ModelConfig {
        n_layer: 32,
        n_head: 32,
        n_kv_head: 0,
        d_model: 4096,
        d_head: 0,
        d_ff: 11_008,
        norm_eps: 1e-6,
        ..preset()
    }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "llama",
    classes: Classes {
        causal: "LlamaForCausalLM",
        bare: "LlamaModel",
        classify: Some("LlamaForSequenceClassification"),
    },
    silent,
    pad_id: None,
    activation: "hidden_act",
    biases: (true, true),
    one_rope: true,
    even_heads: true,
};

/// Modules outside the blocks, by the names of Llama and its relatives.
pub(super) const OUTSIDE: &[(&str, &str)] = &[
    ("embedding.token", "*embed_tokens"),
    ("norm", "*norm"),
    ("head.weight", "lm_head.weight"),
    ("head.classifier", "score"),
];

/// Llama's tensors. Old files contain rotary tables, which are recomputed.
pub(super) const NAMES: Names = Names {
    stale: &["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"],
    other_heads: &["lm_head.", "score."],
    ..Names::new(
        "model.",
        "*layers",
        OUTSIDE,
        &[
            ("attention.norm", "input_layernorm"),
            ("attention.query", "self_attn.q_proj"),
            ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"),
            ("attention.output", "self_attn.o_proj"),
            ("attention.query_norm", "self_attn.q_norm"),
            ("attention.key_norm", "self_attn.k_norm"),
            ("feed_forward.norm", "post_attention_layernorm"),
            ("feed_forward.gate", "mlp.gate_proj"),
            ("feed_forward.up", "mlp.up_proj"),
            ("feed_forward.down", "mlp.down_proj"),
        ],
    )
};
