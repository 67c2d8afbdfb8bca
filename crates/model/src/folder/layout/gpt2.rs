//! GPT-2's layout: `GPT2LMHeadModel`, `GPT2Model`.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::{activation, activation_name, architecture, dropout, head_width};
use crate::config::{BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions};
use crate::folder::json::Fields;

/// GPT-2's tensors. Its projections are stored `[in, out]`, and query, key and value as one.
pub(super) const NAMES: Names = Names {
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
    .turned()
};

/// Whether GPT-2's `config.json` can say all of `config`.
pub(super) fn fits(config: &ModelConfig) -> bool {
    config.block == BlockKind::Pre
        && config.norm == NormKind::Layer
        && config.positions == Positions::Learned
        && config.mask == MaskKind::Causal
        && config.window.is_none()
        && config.attention_scale.is_none_or(|scale| scale == 1.0)
        && config.attention_bias
        && config.feed_forward_bias
        && config.n_kv_head == config.n_head
        && config.n_head * config.d_head == config.d_model
        && config.n_token_type == 0
        && activation_name(config.feed_forward).is_some()
        && matches!(config.head, Head::NextToken | Head::Hidden { pooler: false })
}

/// What `config.json` says; complaints go to `fields`.
pub(super) fn read(
    fields: &mut Fields,
    has: &dyn Fn(&str) -> bool,
    warnings: &mut Vec<String>,
) -> Option<ModelConfig> {
    let d_model = fields.count("n_embd").unwrap_or(768);
    let n_head = fields.count("n_head").unwrap_or(12);
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
        family: Family::Gpt2,
        vocab_size: fields.count("vocab_size").unwrap_or(50257),
        n_layer: fields.count("n_layer").unwrap_or(12),
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("n_embd", d_model), ("n_head", n_head)),
        d_ff: fields.count("n_inner").unwrap_or(4 * d_model),
        context_len: fields.count("n_positions").unwrap_or(1024),
        block: BlockKind::Pre,
        norm: NormKind::Layer,
        norm_eps: fields.not_negative("layer_norm_epsilon").unwrap_or(1e-5),
        positions: Positions::Learned,
        rope_theta: 10_000.0,
        rope_scaling: None,
        feed_forward: activation(fields, "activation_function", FeedForwardKind::GeluTanh),
        mask: MaskKind::Causal,
        window: None,
        attention_scale,
        attention_bias: true,
        feed_forward_bias: true,
        tied_head,
        n_token_type: 0,
        head,
        dropout: dropout(fields, &["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.1, warnings),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
    })
}

/// The `config.json` of a model that [`fits`].
pub(super) fn write(config: &ModelConfig) -> Map<String, Value> {
    let class = match config.head {
        Head::Hidden { .. } => "GPT2Model",
        _ => "GPT2LMHeadModel",
    };
    let object = json!({
        "architectures": [class],
        "model_type": "gpt2",
        "add_cross_attention": false,
        "activation_function": activation_name(config.feed_forward),
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "initializer_range": config.init_std,
        "layer_norm_epsilon": config.norm_eps,
        // llama.cpp's converter reads n_ctx; transformers 5 no longer writes it.
        "n_ctx": config.context_len,
        "n_embd": config.d_model,
        "n_head": config.n_head,
        "n_inner": config.d_ff,
        "n_layer": config.n_layer,
        "n_positions": config.context_len,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": config.dropout,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": config.attention_scale.is_none(),
        "tie_word_embeddings": config.tied_head,
        "use_cache": true,
        "vocab_size": config.vocab_size,
    });
    object.as_object().cloned().unwrap_or_default()
}
