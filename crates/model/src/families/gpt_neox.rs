//! GPT-NeoX and Pythia: preset and folders, `GPTNeoXForCausalLM`, `GPTNeoXForSequenceClassification` and
//! `GPTNeoXModel`.

use serde_json::{Map, Value, json};

use super::base::off;
use super::heads::{Classes, causal_class, pad_id, read_causal_head};
use super::names::Names;
use super::rope::{read_flat, written, written_scaling};
use super::words::{activation, activation_name, dropout, head_width};
use super::{About, Definition, Folder, Reading};
use crate::config::{BlockKind, ClassifierKind, Family, FeedForwardKind, ModelConfig, Pooling, Positions};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "gpt_neox", about: ABOUT, names: NAMES, read, write }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification", "GPTNeoXModel"],
    says: "parallel or sequential residual; a part of each head rotated; activations as `gpt2`; tied or untied head",
};

/// The preset: what a config has by default.
pub(super) fn preset() -> ModelConfig {
    ModelConfig {
        vocab_size: 50_432,
        context_len: 2048,
        block: BlockKind::Parallel,
        positions: Positions::Rotary,
        rotary_fraction: 0.25,
        feed_forward: FeedForwardKind::GeluErf,
        tied_head: false,
        classifier: ClassifierKind::Plain,
        pooling: Pooling::Last,
        ..off(Family::GptNeox)
    }
}

const CLASSES: Classes = Classes {
    causal: "GPTNeoXForCausalLM",
    bare: "GPTNeoXModel",
    classify: Some("GPTNeoXForSequenceClassification"),
};

/// GPT-NeoX's tensors: queries, keys and values of one head are adjacent, head after head.
const NAMES: Names = Names {
    stale: &["attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"],
    other_heads: &["embed_out.", "lm_head.", "score."],
    // The name in transformers 5's in-memory model.
    endings: &[("embed_out.weight", "lm_head.weight")],
    by_head: &["attention.query_key_value"],
    ..Names::new(
        "gpt_neox.",
        "*layers",
        &[
            ("embedding.token", "*embed_in"),
            ("norm", "*final_layer_norm"),
            ("head.weight", "embed_out.weight"),
            ("head.classifier", "score"),
        ],
        &[
            ("attention.norm", "input_layernorm"),
            ("attention.query", "attention.query_key_value"),
            ("attention.key", "attention.query_key_value"),
            ("attention.value", "attention.query_key_value"),
            ("attention.output", "attention.dense"),
            ("feed_forward.norm", "post_attention_layernorm"),
            ("feed_forward.up", "mlp.dense_h_to_4h"),
            ("feed_forward.down", "mlp.dense_4h_to_h"),
        ],
    )
};

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let tied_head = reading.fields.flag("tie_word_embeddings").unwrap_or(false);
    let head = read_causal_head(reading, &CLASSES, tied_head, "embed_out.weight");
    let Reading { fields, has: _, warnings, labels: _ } = reading;
    let d_model = fields.count("hidden_size").unwrap_or(6144);
    let n_head = fields.count("num_attention_heads").unwrap_or(64);
    let context_len = fields.count("max_position_embeddings").unwrap_or(2048);
    let angles = read_flat(fields, context_len, ("rotary_emb_base", 10_000.0), "rotary_pct");
    let parallel = fields.flag("use_parallel_residual").unwrap_or(true);
    Some(ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(50_432),
        n_layer: fields.count("num_hidden_layers").unwrap_or(44),
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
        d_ff: fields.count("intermediate_size").unwrap_or(24_576),
        context_len,
        block: if parallel { BlockKind::Parallel } else { BlockKind::Pre },
        norm_eps: fields.not_negative("layer_norm_eps").unwrap_or(1e-5),
        rope_theta: angles.theta,
        rope_scaling: angles.scaling,
        rotary_fraction: angles.fraction.unwrap_or(0.25),
        feed_forward: activation(fields, "hidden_act", FeedForwardKind::GeluErf),
        attention_bias: fields.flag("attention_bias").unwrap_or(true),
        tied_head,
        pad_id: pad_id(fields, head, None),
        head,
        dropout: dropout(fields, &["attention_dropout", "hidden_dropout"], 0.0, warnings),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
        ..preset()
    })
}

/// The `config.json` of a model. A setting that it can't express shows when it is read back.
fn write(config: &ModelConfig) -> Option<Map<String, Value>> {
    let ModelConfig {
        family: _,
        vocab_size,
        n_layer,
        n_head,
        n_kv_head: _,
        d_model,
        d_head: _,
        d_ff,
        context_len,
        block,
        norm: _,
        norm_eps,
        positions: _,
        pad_id,
        relative_bias: _,
        rope_theta,
        rotary_fraction,
        rope_scaling,
        feed_forward,
        mask: _,
        window: _,
        layers: _,
        attention_scale: _,
        qk_norm: _,
        attention_bias,
        attention_output_bias: _,
        feed_forward_bias: _,
        residual_multiplier: _,
        embedding_scale: _,
        embedding_norm: _,
        skip_first_norm: _,
        tied_head,
        n_token_type: _,
        head_bias: _,
        head_dense_bias: _,
        head_activation: _,
        classifier: _,
        pooling: _,
        logit_divisor: _,
        logit_softcap: _,
        head,
        dropout,
        init_std,
        embedding_init: _,
        head_init: _,
        branch_init: _,
        value_embeddings: _,
        bigrams: _,
    } = config;
    let mut parameters = written(*rope_theta, *rope_scaling);
    parameters["partial_rotary_factor"] = json!(rotary_fraction);
    let object = json!({
        "architectures": [causal_class(&CLASSES, *head)?],
        "model_type": "gpt_neox",
        "attention_bias": attention_bias,
        "attention_dropout": dropout,
        "hidden_act": activation_name(*feed_forward)?,
        "hidden_dropout": dropout,
        "hidden_size": d_model,
        "initializer_range": init_std,
        "intermediate_size": d_ff,
        "layer_norm_eps": norm_eps,
        "max_position_embeddings": context_len,
        "num_attention_heads": n_head,
        "num_hidden_layers": n_layer,
        "pad_token_id": pad_id,
        "rope_parameters": parameters,
        "rope_scaling": written_scaling(*rope_scaling),
        "rotary_emb_base": rope_theta,
        "rotary_pct": rotary_fraction,
        "tie_word_embeddings": tied_head,
        "use_cache": true,
        "use_parallel_residual": *block == BlockKind::Parallel,
        "vocab_size": vocab_size,
    });
    object.as_object().cloned()
}
