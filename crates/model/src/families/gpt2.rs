//! GPT-2: preset and folders, `GPT2LMHeadModel`, `GPT2ForSequenceClassification` and `GPT2Model`.

use serde_json::{Map, Value, json};

use super::base::off;
use super::heads::{Classes, causal_class, pad_id, read_causal_head};
use super::names::Names;
use super::words::{activation, activation_name, dropout, head_width};
use super::{About, Definition, Folder, Reading};
use crate::config::{ClassifierKind, Family, FeedForwardKind, ModelConfig, Pooling};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "gpt2", about: ABOUT, names: NAMES, read, write }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2Model"],
    says: "`gelu`, `gelu_new` and its other names, `relu`, `relu2`, `silu`; tied or untied head; any eps and width",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        vocab_size: 50_257,
        classifier: ClassifierKind::Plain,
        pooling: Pooling::Last,
        ..off(Family::Gpt2)
    }
}

/// GPT-2's tensors. Its projections are stored `[in, out]`, and query, key and value as one tensor.
const NAMES: Names = Names {
    stale: &[".attn.bias", ".attn.masked_bias"],
    other_heads: &["lm_head.", "score."],
    ..Names::new(
        "transformer.",
        "*h",
        &[
            ("embedding.token", "*wte"),
            ("embedding.position", "*wpe"),
            ("norm", "*ln_f"),
            ("head.weight", "lm_head.weight"),
            ("head.classifier", "score"),
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

/// Its classes.
const CLASSES: Classes =
    Classes { causal: "GPT2LMHeadModel", bare: "GPT2Model", classify: Some("GPT2ForSequenceClassification") };

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let tied_head = reading.fields.flag("tie_word_embeddings").unwrap_or(true);
    let head = read_causal_head(reading, &CLASSES, tied_head, "lm_head.weight");
    let Reading { fields, has: _, warnings, labels: _ } = reading;
    let d_model = fields.count_of("n_embd", "hidden_size").unwrap_or(768);
    let n_head = fields.count_of("n_head", "num_attention_heads").unwrap_or(12);
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
        pad_id: pad_id(fields, head, None),
        head,
        dropout: dropout(fields, &["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.1, warnings),
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
        block: _,
        norm: _,
        norm_eps,
        positions: _,
        pad_id,
        relative_bias: _,
        rope_theta: _,
        rotary_fraction: _,
        rope_scaling: _,
        feed_forward,
        mask: _,
        window: _,
        layers: _,
        attention_scale,
        qk_norm: _,
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
    let class = causal_class(&CLASSES, *head)?;
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
        "pad_token_id": pad_id,
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
