//! ModernBERT: preset and folders, `ModernBertModel`, `ModernBertForMaskedLM` and
//! `ModernBertForSequenceClassification`.

use serde_json::{Map, Value, json};

use super::base::off;
use super::heads::{EncoderClasses, encoder_class, read_encoder_head};
use super::names::Names;
use super::rope::{Layered, fill_types, layer_types, read_layered};
use super::words::{dropout, gate_name, gated_activation, head_activation, head_activation_name, head_width};
use super::{About, Definition, Folder, Reading};
use crate::config::{
    ActivationKind, ClassifierKind, Family, FeedForwardKind, MaskKind, ModelConfig, NormKind, Pooling,
    Positions,
};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "modernbert", about: ABOUT, names: NAMES, read, write }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["ModernBertForMaskedLM", "ModernBertForSequenceClassification", "ModernBertModel"],
    says: "windows and two rotary bases by `layer_types` or `global_attn_every_n_layers`; gates as `llama`; biases by their keys; pooling by the first token or the mean",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        vocab_size: 50_368,
        n_layer: 22,
        d_ff: 1152,
        context_len: 8192,
        norm: NormKind::LayerNoBias,
        positions: Positions::Rotary,
        rope_theta: 160_000.0,
        feed_forward: FeedForwardKind::GegluErf,
        mask: MaskKind::Full,
        layers: LAYERED.pattern(3, 0, 65),
        attention_bias: false,
        feed_forward_bias: false,
        embedding_norm: Some(true),
        skip_first_norm: true,
        head_dense_bias: false,
        head_activation: Some(ActivationKind::GeluErf),
        classifier: ClassifierKind::Transform,
        ..off(Family::Modernbert)
    }
}

const CLASSES: EncoderClasses = EncoderClasses {
    masked: &["ModernBertForMaskedLM"],
    bare: "ModernBertModel",
    classify: "ModernBertForSequenceClassification",
    shown_by: ("decoder.bias", "classifier.weight"),
};

const LAYERED: Layered = Layered {
    full_key: "global_rope_theta",
    full_theta: 160_000.0,
    local_key: "local_rope_theta",
    local_theta: 10_000.0,
    scales_local: true,
};

/// ModernBERT's tensors: queries, keys and values are stored as one tensor, and so are gate and up.
const NAMES: Names = Names {
    other_heads: &["head.", "decoder.", "classifier."],
    ..Names::new(
        "model.",
        "*layers",
        &[
            ("embedding.token", "*embeddings.tok_embeddings"),
            ("embedding.norm", "*embeddings.norm"),
            ("norm", "*final_norm"),
            ("head.transform", "head.dense"),
            ("head.norm", "head.norm"),
            ("head.weight", "decoder.weight"),
            ("head.bias", "decoder.bias"),
            ("head.classifier", "classifier"),
        ],
        &[
            ("attention.norm", "attn_norm"),
            ("attention.query", "attn.Wqkv"),
            ("attention.key", "attn.Wqkv"),
            ("attention.value", "attn.Wqkv"),
            ("attention.output", "attn.Wo"),
            ("feed_forward.norm", "mlp_norm"),
            ("feed_forward.gate", "mlp.Wi"),
            ("feed_forward.up", "mlp.Wi"),
            ("feed_forward.down", "mlp.Wo"),
        ],
    )
};

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let head = read_encoder_head(reading, &CLASSES, "*no pooler");
    let Reading { fields, has: _, warnings, labels: _ } = reading;
    let d_model = fields.count("hidden_size").unwrap_or(768);
    let n_head = fields.count("num_attention_heads").unwrap_or(12);
    let n_layer = fields.count("num_hidden_layers").unwrap_or(22);
    let every = fields.count("global_attn_every_n_layers").unwrap_or(3);
    let types = layer_types(fields, n_layer, |layer| layer % every != 0);
    let half = fields.count("local_attention").unwrap_or(128) / 2;
    let context_len = fields.count("max_position_embeddings").unwrap_or(8192);
    let rope = read_layered(fields, &LAYERED, context_len);
    let mut dropouts = vec!["embedding_dropout", "attention_dropout", "mlp_dropout"];
    if fields.get("classifier_dropout").is_some() {
        dropouts.push("classifier_dropout");
    }
    let pooling = match fields.text("classifier_pooling") {
        None | Some("cls") => Pooling::First,
        Some("mean") => Pooling::Mean,
        Some(other) => {
            fields.complain(format!(
                "classifier_pooling = {other:?} is not implemented; \"cls\" and \"mean\" are"
            ));
            Pooling::First
        }
    };
    let has_bias = |fields: &mut super::Fields, key: &str| fields.flag(key).unwrap_or(false);
    Some(ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(50_368),
        n_layer,
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
        d_ff: fields.count("intermediate_size").unwrap_or(1152),
        context_len,
        norm: if has_bias(fields, "norm_bias") { NormKind::Layer } else { NormKind::LayerNoBias },
        norm_eps: fields.not_negative("norm_eps").unwrap_or(1e-5),
        rope_theta: rope.theta,
        rope_scaling: rope.scaling,
        feed_forward: gated_activation(fields, "hidden_activation", FeedForwardKind::GegluErf),
        layers: fill_types(&types, half + 1, &rope),
        attention_bias: has_bias(fields, "attention_bias"),
        feed_forward_bias: has_bias(fields, "mlp_bias"),
        tied_head: fields.flag("tie_word_embeddings").unwrap_or(true),
        head_bias: (!fields.flag("decoder_bias").unwrap_or(true)).then_some(false),
        head_dense_bias: has_bias(fields, "classifier_bias"),
        head_activation: head_activation(fields, "classifier_activation").or(Some(ActivationKind::GeluErf)),
        pooling,
        head,
        dropout: dropout(fields, &dropouts, 0.0, warnings),
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
        norm,
        norm_eps,
        positions: _,
        pad_id: _,
        relative_bias: _,
        rope_theta: _,
        rotary_fraction: _,
        rope_scaling: _,
        feed_forward,
        mask: _,
        window: _,
        layers: _,
        attention_scale: _,
        qk_norm: _,
        attention_bias,
        attention_output_bias: _,
        feed_forward_bias,
        residual_multiplier: _,
        embedding_scale: _,
        embedding_norm: _,
        skip_first_norm: _,
        tied_head,
        n_token_type: _,
        head_bias,
        head_dense_bias,
        head_activation,
        classifier: _,
        pooling,
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
    let object = json!({
        "architectures": [encoder_class(&CLASSES, *head)?],
        "model_type": "modernbert",
        "attention_bias": attention_bias,
        "attention_dropout": dropout,
        "classifier_activation": head_activation_name((*head_activation)?),
        "classifier_bias": head_dense_bias,
        "classifier_dropout": dropout,
        "classifier_pooling": if *pooling == Pooling::Mean { "mean" } else { "cls" },
        "decoder_bias": head_bias.unwrap_or(true),
        "embedding_dropout": dropout,
        "hidden_activation": gate_name(*feed_forward)?,
        "hidden_size": d_model,
        "initializer_range": init_std,
        "intermediate_size": d_ff,
        "max_position_embeddings": context_len,
        "mlp_bias": feed_forward_bias,
        "mlp_dropout": dropout,
        "norm_bias": *norm == NormKind::Layer,
        "norm_eps": norm_eps,
        "num_attention_heads": n_head,
        "num_hidden_layers": n_layer,
        "tie_word_embeddings": tied_head,
        "vocab_size": vocab_size,
    });
    let mut object = object.as_object().cloned()?;
    let window = LAYERED.write(config, &mut object)?;
    let every = (1..=config.n_layer)
        .find(|n| (0..config.n_layer).all(|at| (at % n != 0) == config.layer_kind(at).window.is_some()));
    if let Some(every) = every {
        object.insert("global_attn_every_n_layers".into(), json!(every));
    }
    object.insert("local_attention".into(), json!(2 * (window.unwrap_or(65) - 1)));
    Some(object)
}
