//! Llama's layout: `LlamaForCausalLM`, `LlamaModel`.

use serde_json::{Map, Value, json};

use super::architecture;
use super::names::Names;
use crate::config::{
    BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions, RopeScaling,
};
use crate::folder::json::Fields;

/// Llama's tensors. Old files hold rotary tables, which are computed anew.
pub(super) const NAMES: Names = Names {
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

/// Whether Llama's `config.json` can say all of `config`.
pub(super) fn fits(config: &ModelConfig) -> bool {
    config.block == BlockKind::Pre
        && config.norm == NormKind::Rms
        && config.positions == Positions::Rotary
        && config.mask == MaskKind::Causal
        && config.window.is_none()
        && config.attention_scale.is_none()
        && config.feed_forward == FeedForwardKind::Swiglu
        && config.n_token_type == 0
        // transformers refuses other widths, though head_dim is given apart.
        && config.d_model.is_multiple_of(config.n_head)
        && matches!(config.head, Head::NextToken | Head::Hidden { pooler: false })
}

/// What `config.json` says; complaints go to `fields`.
pub(super) fn read(fields: &mut Fields, has: &dyn Fn(&str) -> bool) -> Option<ModelConfig> {
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
        None => super::head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
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
        family: Family::Llama,
        vocab_size: fields.count("vocab_size").unwrap_or(32000),
        n_layer: fields.count("num_hidden_layers").unwrap_or(32),
        n_head,
        n_kv_head,
        d_model,
        d_head,
        d_ff: fields.count("intermediate_size").unwrap_or(11008),
        context_len,
        block: BlockKind::Pre,
        norm: NormKind::Rms,
        norm_eps: fields.not_negative("rms_norm_eps").unwrap_or(1e-6),
        positions: Positions::Rotary,
        rope_theta,
        rope_scaling,
        feed_forward: FeedForwardKind::Swiglu,
        mask: MaskKind::Causal,
        window: None,
        attention_scale: None,
        attention_bias: fields.flag("attention_bias").unwrap_or(false),
        feed_forward_bias: fields.flag("mlp_bias").unwrap_or(false),
        tied_head,
        n_token_type: 0,
        head,
        dropout: fields.probability("attention_dropout").unwrap_or(0.0),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
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

/// The `config.json` of a model that [`fits`].
pub(super) fn write(config: &ModelConfig) -> Map<String, Value> {
    let class = match config.head {
        Head::Hidden { .. } => "LlamaModel",
        _ => "LlamaForCausalLM",
    };
    let scaling = config.rope_scaling.map(|scaling| {
        json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_len,
        })
    });
    let mut parameters = scaling.clone().unwrap_or_else(|| json!({"rope_type": "default"}));
    parameters["rope_theta"] = json!(config.rope_theta);
    let object = json!({
        "architectures": [class],
        "model_type": "llama",
        "attention_bias": config.attention_bias,
        "attention_dropout": config.dropout,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "hidden_size": config.d_model,
        "initializer_range": config.init_std,
        "intermediate_size": config.d_ff,
        "max_position_embeddings": config.context_len,
        "mlp_bias": config.feed_forward_bias,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_kv_head,
        "pretraining_tp": 1,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": parameters,
        "rope_scaling": scaling,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head,
        "use_cache": true,
        "vocab_size": config.vocab_size,
    });
    object.as_object().cloned().unwrap_or_default()
}
