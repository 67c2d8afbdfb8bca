//! DistilBERT: preset and folders, `DistilBertModel`, `DistilBertForMaskedLM` and
//! `DistilBertForSequenceClassification`.

use serde_json::{Map, Value, json};

use super::heads::{EncoderClasses, encoder_class, read_encoder_head};
use super::names::Names;
use super::words::{activation, activation_name, dropout, head_width};
use super::{About, Definition, Folder, Reading, bert};
use crate::config::{ClassifierKind, Family, FeedForwardKind, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "distilbert", about: ABOUT, names: NAMES, read, write }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["DistilBertForMaskedLM", "DistilBertForSequenceClassification", "DistilBertModel"],
    says: "as `bert`, without token types and pooler",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Distilbert,
        n_layer: 6,
        n_token_type: 0,
        classifier: ClassifierKind::Relu,
        ..bert::preset()
    }
}

const CLASSES: EncoderClasses = EncoderClasses {
    masked: &["DistilBertForMaskedLM"],
    bare: "DistilBertModel",
    classify: "DistilBertForSequenceClassification",
    shown_by: ("vocab_transform.weight", "pre_classifier.weight"),
};

/// DistilBERT's tensors.
const NAMES: Names = Names {
    stale: &["embeddings.position_ids"],
    other_heads: &["vocab_", "pre_classifier.", "classifier.", "qa_outputs."],
    ..Names::new(
        "distilbert.",
        "*transformer.layer",
        &[
            ("embedding.token", "*embeddings.word_embeddings"),
            ("embedding.position", "*embeddings.position_embeddings"),
            ("embedding.norm", "*embeddings.LayerNorm"),
            ("head.transform", "vocab_transform"),
            ("head.norm", "vocab_layer_norm"),
            ("head.weight", "vocab_projector.weight"),
            ("head.bias", "vocab_projector.bias"),
            ("head.pooler", "pre_classifier"),
            ("head.classifier", "classifier"),
        ],
        &[
            ("attention.query", "attention.q_lin"),
            ("attention.key", "attention.k_lin"),
            ("attention.value", "attention.v_lin"),
            ("attention.output", "attention.out_lin"),
            ("attention.norm", "sa_layer_norm"),
            ("feed_forward.up", "ffn.lin1"),
            ("feed_forward.down", "ffn.lin2"),
            ("feed_forward.norm", "output_layer_norm"),
        ],
    )
};

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let head = read_encoder_head(reading, &CLASSES, "*no pooler");
    let Reading { fields, has: _, warnings, labels: _ } = reading;
    let d_model = fields.count_of("dim", "hidden_size").unwrap_or(768);
    let n_head = fields.count_of("n_heads", "num_attention_heads").unwrap_or(12);
    let mut dropouts = vec!["dropout", "attention_dropout"];
    if fields.get("seq_classif_dropout").is_some() && matches!(head, crate::config::Head::Classify { .. }) {
        dropouts.push("seq_classif_dropout");
    }
    Some(ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(30_522),
        n_layer: fields.count_of("n_layers", "num_hidden_layers").unwrap_or(6),
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("dim", d_model), ("n_heads", n_head)),
        d_ff: fields.count("hidden_dim").unwrap_or(3072),
        context_len: fields.count("max_position_embeddings").unwrap_or(512),
        feed_forward: activation(fields, "activation", FeedForwardKind::GeluErf),
        tied_head: fields.flag("tie_word_embeddings").unwrap_or(true),
        head,
        dropout: dropout(fields, &dropouts, 0.1, warnings),
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
        norm_eps: _,
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
    let object = json!({
        "architectures": [encoder_class(&CLASSES, *head)?],
        "model_type": "distilbert",
        "activation": activation_name(*feed_forward)?,
        "attention_dropout": dropout,
        "dim": d_model,
        "dropout": dropout,
        "hidden_dim": d_ff,
        "initializer_range": init_std,
        "max_position_embeddings": context_len,
        "n_heads": n_head,
        "n_layers": n_layer,
        "qa_dropout": dropout,
        "seq_classif_dropout": dropout,
        "sinusoidal_pos_embds": false,
        "tie_weights_": true,
        "tie_word_embeddings": tied_head,
        "vocab_size": vocab_size,
    });
    object.as_object().cloned()
}
