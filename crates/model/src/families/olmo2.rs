//! OLMo 2: preset and folders, `Olmo2ForCausalLM`, `Olmo2ForSequenceClassification` and `Olmo2Model`.

use super::decoder::LlamaLike;
use super::heads::Classes;
use super::names::Names;
use super::{About, Definition, Folder, llama};
use crate::config::{BlockKind, Family, ModelConfig, QkNorm};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "olmo2",
        about: ABOUT,
        names: NAMES,
        read: |reading| LIKE.read(reading),
        write: |config| LIKE.write(config),
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["Olmo2ForCausalLM", "Olmo2ForSequenceClassification", "Olmo2Model"],
    says: "as `llama`; norms after the branches; RMS norms of all queries and keys of a token",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Olmo2,
        vocab_size: 100_352,
        block: BlockKind::Reordered,
        rope_theta: 500_000.0,
        qk_norm: QkNorm::Whole,
        ..llama::preset()
    }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "olmo2",
    classes: Classes {
        causal: "Olmo2ForCausalLM",
        bare: "Olmo2Model",
        classify: Some("Olmo2ForSequenceClassification"),
    },
    silent: || ModelConfig {
        vocab_size: 50_304,
        n_layer: 32,
        n_head: 32,
        n_kv_head: 0,
        d_model: 4096,
        d_head: 0,
        d_ff: 11_008,
        rope_theta: 10_000.0,
        ..preset()
    },
    pad_id: Some(1),
    activation: "hidden_act",
    biases: (true, false),
    one_rope: true,
    even_heads: false,
};

/// OLMo 2's tensors: the norms follow the branches.
const NAMES: Names = Names {
    stale: llama::NAMES.stale,
    other_heads: llama::NAMES.other_heads,
    ..Names::new(
        "model.",
        "*layers",
        llama::OUTSIDE,
        &[
            ("attention.query", "self_attn.q_proj"),
            ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"),
            ("attention.output", "self_attn.o_proj"),
            ("attention.query_norm", "self_attn.q_norm"),
            ("attention.key_norm", "self_attn.k_norm"),
            ("attention.branch_norm", "post_attention_layernorm"),
            ("feed_forward.gate", "mlp.gate_proj"),
            ("feed_forward.up", "mlp.up_proj"),
            ("feed_forward.down", "mlp.down_proj"),
            ("feed_forward.branch_norm", "post_feedforward_layernorm"),
        ],
    )
};
