//! Phi: preset and folders, `PhiForCausalLM`, `PhiForSequenceClassification` and `PhiModel`.

use serde_json::{Map, Value, json};

use super::gpt_neox;
use super::heads::{Classes, causal_class, pad_id, read_causal_head};
use super::names::Names;
use super::rope::{read_flat, written, written_scaling};
use super::words::{activation, activation_name, dropout, head_width};
use super::{About, Definition, Folder, Reading};
use crate::config::{BlockKind, Family, FeedForwardKind, ModelConfig, QkNorm};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "phi", about: ABOUT, names: NAMES, read, write }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["PhiForCausalLM", "PhiForSequenceClassification", "PhiModel"],
    says: "one norm for both sublayers; a part of each head rotated; norms of queries and keys; fewer key/value heads; a bias on the head",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Phi,
        vocab_size: 51_200,
        block: BlockKind::ParallelShared,
        rotary_fraction: 0.5,
        feed_forward: FeedForwardKind::GeluTanh,
        head_bias: Some(true),
        ..gpt_neox::preset()
    }
}

const CLASSES: Classes =
    Classes { causal: "PhiForCausalLM", bare: "PhiModel", classify: Some("PhiForSequenceClassification") };

/// Phi's tensors.
const NAMES: Names = Names {
    stale: &["rotary_emb.inv_freq"],
    other_heads: &["lm_head.", "score."],
    ..Names::new(
        "model.",
        "*layers",
        &[
            ("embedding.token", "*embed_tokens"),
            ("norm", "*final_layernorm"),
            ("head.weight", "lm_head.weight"),
            ("head.bias", "lm_head.bias"),
            ("head.classifier", "score"),
        ],
        &[
            ("attention.norm", "input_layernorm"),
            ("attention.query", "self_attn.q_proj"),
            ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"),
            ("attention.output", "self_attn.dense"),
            ("attention.query_norm", "self_attn.q_layernorm"),
            ("attention.key_norm", "self_attn.k_layernorm"),
            ("feed_forward.up", "mlp.fc1"),
            ("feed_forward.down", "mlp.fc2"),
        ],
    )
};

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let tied_head = reading.fields.flag("tie_word_embeddings").unwrap_or(false);
    let head = read_causal_head(reading, &CLASSES, tied_head, "lm_head.weight");
    let Reading { fields, has: _, warnings, labels: _ } = reading;
    let d_model = fields.count("hidden_size").unwrap_or(2048);
    let n_head = fields.count("num_attention_heads").unwrap_or(32);
    let n_kv_head = fields.count("num_key_value_heads").unwrap_or(n_head);
    let context_len = fields.count("max_position_embeddings").unwrap_or(2048);
    let angles = read_flat(fields, context_len, ("rope_theta", 10_000.0), "partial_rotary_factor");
    let d_head = match fields.count("head_dim") {
        Some(d_head) => d_head,
        None => head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
    };
    let qk_norm = if fields.flag("qk_layernorm").unwrap_or(false) { QkNorm::Head } else { QkNorm::None };
    let config = ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(51_200),
        n_layer: fields.count("num_hidden_layers").unwrap_or(24),
        n_head,
        n_kv_head,
        d_model,
        d_head,
        d_ff: fields.count("intermediate_size").unwrap_or(8192),
        context_len,
        norm_eps: fields.not_negative("layer_norm_eps").unwrap_or(1e-5),
        rope_theta: angles.theta,
        rope_scaling: angles.scaling,
        rotary_fraction: angles.fraction.unwrap_or(0.5),
        feed_forward: activation(fields, "hidden_act", FeedForwardKind::GeluTanh),
        qk_norm,
        tied_head,
        pad_id: pad_id(fields, head, None),
        head,
        dropout: dropout(fields, &["attention_dropout", "resid_pdrop", "embd_pdrop"], 0.0, warnings),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
        ..preset()
    };
    let (width, _) = config.rotary_widths();
    if width % 2 == 1 {
        fields.complain(format!(
            "partial_rotary_factor = {} rotates {width} of {d_head} channels of a head; an even number is needed",
            config.rotary_fraction
        ));
    }
    Some(config)
}

/// The `config.json` of a model. A setting that it can't express shows when it is read back.
fn write(config: &ModelConfig) -> Option<Map<String, Value>> {
    let ModelConfig {
        family: _,
        vocab_size,
        n_layer,
        n_head,
        n_kv_head,
        d_model,
        d_head,
        d_ff,
        context_len,
        block: _,
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
        qk_norm,
        attention_bias: _,
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
    let mut object = json!({
        "architectures": [causal_class(&CLASSES, *head)?],
        "model_type": "phi",
        "attention_dropout": dropout,
        "embd_pdrop": dropout,
        "hidden_act": activation_name(*feed_forward)?,
        "hidden_size": d_model,
        "initializer_range": init_std,
        "intermediate_size": d_ff,
        "layer_norm_eps": norm_eps,
        "max_position_embeddings": context_len,
        "num_attention_heads": n_head,
        "num_hidden_layers": n_layer,
        "num_key_value_heads": n_kv_head,
        "pad_token_id": pad_id,
        "partial_rotary_factor": rotary_fraction,
        "qk_layernorm": *qk_norm == QkNorm::Head,
        "resid_pdrop": dropout,
        "rope_parameters": parameters,
        "rope_scaling": written_scaling(*rope_scaling),
        "rope_theta": rope_theta,
        "tie_word_embeddings": tied_head,
        "use_cache": true,
        "vocab_size": vocab_size,
    });
    if d_head * n_head != *d_model {
        if *qk_norm == QkNorm::Head {
            // transformers makes these norms hidden_size / num_attention_heads wide.
            return None;
        }
        object["head_dim"] = json!(d_head);
    }
    object.as_object().cloned()
}
