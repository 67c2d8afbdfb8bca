//! Llama: its preset, and its folders, `LlamaForCausalLM` and `LlamaModel`.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::names::Names;
use super::words::{architecture, head_width};
use super::{Definition, Folder, Reading};
use crate::config::{
    BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions, RopeScaling,
};

pub(super) static FAMILY: Definition =
    Definition { preset, folder: Some(Folder { model_type: "llama", names: NAMES, read, write }) };

/// What a config has where it is silent.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 32_000,
        n_layer: 12,
        n_head: 12,
        n_kv_head: 12,
        d_model: 768,
        d_head: 64,
        d_ff: 2048,
        context_len: 2048,
        block: BlockKind::Pre,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        positions: Positions::Rotary,
        rope_theta: 10_000.0,
        rope_scaling: None,
        feed_forward: FeedForwardKind::Swiglu,
        mask: MaskKind::Causal,
        window: None,
        layers: Vec::new(),
        attention_scale: None,
        attention_bias: false,
        feed_forward_bias: false,
        tied_head: false,
        n_token_type: 0,
        head: Head::NextToken,
        dropout: 0.0,
        init_std: 0.02,
    }
}

/// Llama's tensors. Old files hold rotary tables, which are computed anew.
const NAMES: Names = Names {
    stale: &["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"],
    ..Names::new(
        "model.",
        "*layers",
        &[("embedding.token", "*embed_tokens"), ("norm", "*norm"), ("head.weight", "lm_head.weight")],
        &[
            ("attention.norm", "input_layernorm"),
            ("attention.query", "self_attn.q_proj"),
            ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"),
            ("attention.output", "self_attn.o_proj"),
            ("feed_forward.norm", "post_attention_layernorm"),
            ("feed_forward.gate", "mlp.gate_proj"),
            ("feed_forward.up", "mlp.up_proj"),
            ("feed_forward.down", "mlp.down_proj"),
        ],
    )
};

/// What `config.json` says; complaints go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let Reading { fields, has, warnings: _, labels: _ } = reading;
    let d_model = fields.count("hidden_size").unwrap_or(4096);
    let n_head = fields.count("num_attention_heads").unwrap_or(32);
    let n_kv_head = fields.count("num_key_value_heads").unwrap_or(n_head);
    if !n_head.is_multiple_of(n_kv_head) {
        fields.complain(format!(
            "num_key_value_heads = {n_kv_head} does not divide num_attention_heads = {n_head}"
        ));
    }
    let d_head = match fields.count("head_dim") {
        Some(d_head) => d_head,
        None => head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
    };
    if !d_head.is_multiple_of(2) {
        fields.complain(format!("head_dim = {d_head} is odd; rotary positions turn pairs of channels"));
    }
    if let Some(other) = fields.text("hidden_act").filter(|act| !matches!(*act, "silu" | "swish")) {
        fields.complain(format!("hidden_act = {other:?} is not implemented for llama; \"silu\" is"));
    }
    let tied_head = fields.flag("tie_word_embeddings").unwrap_or(false);
    let head = match architecture(fields) {
        Some("LlamaForCausalLM") => Head::NextToken,
        None | Some("LlamaModel") if tied_head || has("lm_head.weight") => Head::NextToken,
        None | Some("LlamaModel") => Head::Hidden { pooler: false },
        Some(other) => {
            fields.complain(format!(
                "architectures = [{other:?}] is not implemented; LlamaForCausalLM and LlamaModel are"
            ));
            Head::NextToken
        }
    };
    let context_len = fields.count("max_position_embeddings").unwrap_or(2048);
    let (rope_theta, rope_scaling) = read_rope(fields, context_len);
    Some(ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(32000),
        n_layer: fields.count("num_hidden_layers").unwrap_or(32),
        n_head,
        n_kv_head,
        d_model,
        d_head,
        d_ff: fields.count("intermediate_size").unwrap_or(11008),
        context_len,
        norm_eps: fields.not_negative("rms_norm_eps").unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        attention_bias: fields.flag("attention_bias").unwrap_or(false),
        feed_forward_bias: fields.flag("mlp_bias").unwrap_or(false),
        tied_head,
        head,
        dropout: fields.probability("attention_dropout").unwrap_or(0.0),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
        ..preset()
    })
}

/// The rotary settings: `rope_theta` with `rope_scaling` (transformers 4), or `rope_parameters` (5).
///
/// Where both are written, `rope_scaling` goes first and a `rope_theta` inside goes before the one outside, as in
/// transformers.
fn read_rope(fields: &mut Fields, context_len: usize) -> (f64, Option<RopeScaling>) {
    let outer_theta = fields.positive("rope_theta").unwrap_or(10_000.0);
    let outer_original = fields.count("original_max_position_embeddings");
    let outer_part = fields.positive("partial_rotary_factor");
    let filled = |key| fields.get(key).filter(|value| value.as_object().is_none_or(|map| !map.is_empty()));
    let (key, value) = match (filled("rope_scaling"), filled("rope_parameters")) {
        (Some(value), _) => ("rope_scaling.", value),
        (None, Some(value)) => ("rope_parameters.", value),
        (None, None) => return (outer_theta, whole_head(fields, outer_part)),
    };
    let Some(object) = value.as_object() else {
        fields.complain(format!("{} = {value} is not an object", key.trim_end_matches('.')));
        return (outer_theta, None);
    };
    let mut rope = Fields::new(object, key);
    let theta = rope.positive("rope_theta").unwrap_or(outer_theta);
    let part = rope.positive("partial_rotary_factor").or(outer_part);
    whole_head(&mut rope, part);
    let kind = rope.text("rope_type").or_else(|| rope.text("type"));
    let scaling = match kind {
        None | Some("default") => None,
        Some("llama3") => {
            let mut needed = |key: &str| {
                let number = rope.positive(key);
                if number.is_none() && rope.get(key).is_none() {
                    rope.complain(format!("rope_type = \"llama3\" needs {key}"));
                }
                number.unwrap_or(1.0)
            };
            let (factor, low, high) =
                (needed("factor"), needed("low_freq_factor"), needed("high_freq_factor"));
            let original = rope.count("original_max_position_embeddings");
            Some(RopeScaling {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_context_len: outer_original.or(original).unwrap_or(context_len),
            })
        }
        Some(other) => {
            rope.complain(format!(
                "{key}rope_type = {other:?} is not implemented; \"default\" and \"llama3\" are"
            ));
            None
        }
    };
    fields.problems.append(&mut rope.problems);
    (theta, scaling)
}

/// Complains if only a part of each head is to be turned.
fn whole_head(fields: &mut Fields, part: Option<f64>) -> Option<RopeScaling> {
    if let Some(part) = part.filter(|part| *part != 1.0) {
        fields.complain(format!("partial_rotary_factor = {part} is not implemented; 1 is"));
    }
    None
}

/// The `json` of a model that [`fits`].
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
        rope_theta,
        rope_scaling,
        feed_forward: _,
        mask: _,
        window: _,
        layers: _,
        attention_scale: _,
        attention_bias,
        feed_forward_bias,
        tied_head,
        n_token_type: _,
        head,
        dropout,
        init_std,
    } = config;
    if !d_model.is_multiple_of(*n_head) {
        // transformers refuses such widths, though head_dim is given apart.
        return None;
    }
    let class = match head {
        Head::Hidden { .. } => "LlamaModel",
        _ => "LlamaForCausalLM",
    };
    let scaling = rope_scaling.map(|scaling| {
        json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_len,
        })
    });
    let mut parameters = scaling.clone().unwrap_or_else(|| json!({"rope_type": "default"}));
    parameters["rope_theta"] = json!(rope_theta);
    let object = json!({
        "architectures": [class],
        "model_type": "llama",
        "attention_bias": attention_bias,
        "attention_dropout": dropout,
        "head_dim": d_head,
        "hidden_act": "silu",
        "hidden_size": d_model,
        "initializer_range": init_std,
        "intermediate_size": d_ff,
        "max_position_embeddings": context_len,
        "mlp_bias": feed_forward_bias,
        "num_attention_heads": n_head,
        "num_hidden_layers": n_layer,
        "num_key_value_heads": n_kv_head,
        "pretraining_tp": 1,
        "rms_norm_eps": norm_eps,
        "rope_parameters": parameters,
        "rope_scaling": scaling,
        "rope_theta": rope_theta,
        "tie_word_embeddings": tied_head,
        "use_cache": true,
        "vocab_size": vocab_size,
    });
    object.as_object().cloned()
}
