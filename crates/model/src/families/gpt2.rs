//! GPT-2: its preset, and its folders, `GPT2LMHeadModel` and `GPT2Model`.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::words::{activation, activation_name, architecture, dropout, head_width};
use super::{Definition, Folder, Reading};
use crate::config::{BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions};

pub(super) static FAMILY: Definition =
    Definition { preset, folder: Some(Folder { model_type: "gpt2", names: NAMES, read, write }) };

/// What a config has where it is silent.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Gpt2,
        vocab_size: 50_257,
        n_layer: 12,
        n_head: 12,
        n_kv_head: 12,
        d_model: 768,
        d_head: 64,
        d_ff: 3072,
        context_len: 1024,
        block: BlockKind::Pre,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        positions: Positions::Learned,
        rope_theta: 10_000.0,
        rope_scaling: None,
        feed_forward: FeedForwardKind::GeluTanh,
        mask: MaskKind::Causal,
        window: None,
        layers: Vec::new(),
        attention_scale: None,
        attention_bias: true,
        feed_forward_bias: true,
        tied_head: true,
        n_token_type: 0,
        head: Head::NextToken,
        dropout: 0.0,
        init_std: 0.02,
    }
}

/// GPT-2's tensors. Its projections are stored `[in, out]`, and query, key and value as one.
const NAMES: Names = Names {
    stale: &[".attn.bias", ".attn.masked_bias"],
    ..Names::new(
        "transformer.",
        "*h",
        &[
            ("embedding.token", "*wte"),
            ("embedding.position", "*wpe"),
            ("norm", "*ln_f"),
            ("head.weight", "lm_head.weight"),
        ],
        &[
            ("attention.norm", "ln_1"),
            ("attention.query", "attn.c_attn"),
            ("attention.key", "attn.c_attn"),
            ("attention.value", "attn.c_attn"),
            ("attention.output", "attn.c_proj"),
            ("feed_forward.norm", "ln_2"),
            ("feed_forward.up", "mlp.c_fc"),
            ("feed_forward.down", "mlp.c_proj"),
        ],
    )
    .transposed()
};

/// What `config.json` says; complaints go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let Reading { fields, has, warnings, labels: _ } = reading;
    let d_model = fields.count_of("n_embd", "hidden_size").unwrap_or(768);
    let n_head = fields.count_of("n_head", "num_attention_heads").unwrap_or(12);
    let tied_head = fields.flag("tie_word_embeddings").unwrap_or(true);
    let head = match architecture(fields) {
        Some("GPT2LMHeadModel") => Head::NextToken,
        None | Some("GPT2Model") if tied_head || has("lm_head.weight") => Head::NextToken,
        None | Some("GPT2Model") => Head::Hidden { pooler: false },
        Some(other) => {
            fields.complain(format!(
                "architectures = [{other:?}] is not implemented; GPT2LMHeadModel and GPT2Model are"
            ));
            Head::NextToken
        }
    };
    fields.only("add_cross_attention", false);
    let attention_scale = (fields.flag("scale_attn_weights") == Some(false)).then_some(1.0);
    fields.only("scale_attn_by_inverse_layer_idx", false);
    Some(ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(50257),
        n_layer: fields.count_of("n_layer", "num_hidden_layers").unwrap_or(12),
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("n_embd", d_model), ("n_head", n_head)),
        d_ff: fields.count("n_inner").unwrap_or(4 * d_model),
        context_len: fields.count_of("n_positions", "max_position_embeddings").unwrap_or(1024),
        norm_eps: fields.not_negative("layer_norm_epsilon").unwrap_or(1e-5),
        feed_forward: activation(fields, "activation_function", FeedForwardKind::GeluTanh),
        attention_scale,
        tied_head,
        head,
        dropout: dropout(fields, &["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.1, warnings),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
        ..preset()
    })
}

/// The `json` of a model that [`fits`].
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
        block: _,
        norm: _,
        norm_eps,
        positions: _,
        rope_theta: _,
        rope_scaling: _,
        feed_forward,
        mask: _,
        window: _,
        layers: _,
        attention_scale,
        attention_bias: _,
        feed_forward_bias: _,
        tied_head,
        n_token_type: _,
        head,
        dropout,
        init_std,
    } = config;
    let class = match head {
        Head::Hidden { .. } => "GPT2Model",
        _ => "GPT2LMHeadModel",
    };
    let object = json!({
        "architectures": [class],
        "model_type": "gpt2",
        "add_cross_attention": false,
        "activation_function": activation_name(*feed_forward),
        "attn_pdrop": dropout,
        "embd_pdrop": dropout,
        "initializer_range": init_std,
        "layer_norm_epsilon": norm_eps,
        // llama.cpp's converter reads n_ctx; transformers 5 no longer writes it.
        "n_ctx": context_len,
        "n_embd": d_model,
        "n_head": n_head,
        "n_inner": d_ff,
        "n_layer": n_layer,
        "n_positions": context_len,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": dropout,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": attention_scale.is_none(),
        "tie_word_embeddings": tied_head,
        "use_cache": true,
        "vocab_size": vocab_size,
    });
    object.as_object().cloned()
}
