//! BERT: its preset, and its folders, `BertModel`, `BertForMaskedLM`, `BertForPreTraining` and
//! `BertForSequenceClassification`.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::names::Names;
use super::words::{activation, activation_name, architecture, dropout, head_width, read_labels};
use super::{Definition, Folder, Reading};
use crate::config::{BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions};

pub(super) static FAMILY: Definition =
    Definition { preset, folder: Some(Folder { model_type: "bert", names: NAMES, read, write }) };

/// What a config has where it is silent.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Bert,
        vocab_size: 30_522,
        n_layer: 12,
        n_head: 12,
        n_kv_head: 12,
        d_model: 768,
        d_head: 64,
        d_ff: 3072,
        context_len: 512,
        block: BlockKind::Post,
        norm: NormKind::Layer,
        norm_eps: 1e-12,
        positions: Positions::Learned,
        rope_theta: 10_000.0,
        rope_scaling: None,
        feed_forward: FeedForwardKind::GeluErf,
        mask: MaskKind::Full,
        window: None,
        layers: Vec::new(),
        attention_scale: None,
        attention_bias: true,
        feed_forward_bias: true,
        tied_head: true,
        n_token_type: 2,
        head: Head::NextToken,
        dropout: 0.0,
        init_std: 0.02,
    }
}

/// BERT's tensors. Files from TensorFlow's days call a norm's weight and bias gamma and beta.
const NAMES: Names = Names {
    // With an untied decoder the bias that counts is the decoder's; tied, both are one.
    first: &[("cls.predictions.bias", "cls.predictions.decoder.bias")],
    endings: &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
    stale: &["embeddings.position_ids", "embeddings.token_type_ids"],
    other_heads: &["*pooler.", "cls.", "classifier."],
    ..Names::new(
        "bert.",
        "*encoder.layer",
        &[
            ("embedding.token", "*embeddings.word_embeddings"),
            ("embedding.position", "*embeddings.position_embeddings"),
            ("embedding.token_type", "*embeddings.token_type_embeddings"),
            ("embedding.norm", "*embeddings.LayerNorm"),
            ("head.transform", "cls.predictions.transform.dense"),
            ("head.norm", "cls.predictions.transform.LayerNorm"),
            ("head.weight", "cls.predictions.decoder.weight"),
            ("head.bias", "cls.predictions.bias"),
            ("head.pooler", "*pooler.dense"),
            ("head.classifier", "classifier"),
        ],
        &[
            ("attention.query", "attention.self.query"),
            ("attention.key", "attention.self.key"),
            ("attention.value", "attention.self.value"),
            ("attention.output", "attention.output.dense"),
            ("attention.norm", "attention.output.LayerNorm"),
            ("feed_forward.up", "intermediate.dense"),
            ("feed_forward.down", "output.dense"),
            ("feed_forward.norm", "output.LayerNorm"),
        ],
    )
};

/// What `config.json` says; complaints go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    reading.labels = read_labels(&mut reading.fields);
    let Reading { fields, has, warnings, labels } = reading;
    let d_model = fields.count("hidden_size").unwrap_or(768);
    let n_head = fields.count("num_attention_heads").unwrap_or(12);
    for key in ["is_decoder", "add_cross_attention"] {
        fields.only(key, false);
    }
    let mut dropouts = vec!["hidden_dropout_prob", "attention_probs_dropout_prob"];
    if fields.get("classifier_dropout").is_some() {
        dropouts.push("classifier_dropout");
    }
    if let Some(other) = fields.text("position_embedding_type").filter(|kind| *kind != "absolute") {
        fields.complain(format!("position_embedding_type = {other:?} is not implemented; \"absolute\" is"));
    }
    Some(ModelConfig {
        vocab_size: fields.count("vocab_size").unwrap_or(30522),
        n_layer: fields.count("num_hidden_layers").unwrap_or(12),
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
        d_ff: fields.count("intermediate_size").unwrap_or(3072),
        context_len: fields.count("max_position_embeddings").unwrap_or(512),
        norm_eps: fields.not_negative("layer_norm_eps").unwrap_or(1e-12),
        feed_forward: activation(fields, "hidden_act", FeedForwardKind::GeluErf),
        attention_bias: true,
        tied_head: fields.flag("tie_word_embeddings").unwrap_or(true),
        n_token_type: fields.count("type_vocab_size").unwrap_or(2),
        head: read_head(fields, has, labels),
        dropout: dropout(fields, &dropouts, 0.1, warnings),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
        ..preset()
    })
}

/// The head that `architectures` names, or that the tensors show where it names none.
fn read_head(fields: &mut Fields, has: &dyn Fn(&str) -> bool, labels: &[String]) -> Head {
    // transformers' own default where a config says nothing.
    let n_labels = if labels.is_empty() { 2 } else { labels.len() };
    let hidden = Head::Hidden { pooler: has("*pooler.dense.weight") || has("*pooler.dense.bias") };
    match architecture(fields) {
        Some("BertForMaskedLM" | "BertForPreTraining") => Head::MaskedToken,
        Some("BertForSequenceClassification") => {
            if let Some(other) =
                fields.text("problem_type").filter(|kind| *kind != "single_label_classification")
            {
                fields.complain(format!(
                    "problem_type = {other:?} is not implemented; \"single_label_classification\" is"
                ));
            }
            Head::Classify { n_labels }
        }
        Some("BertModel") => hidden,
        None if has("cls.predictions.transform.dense.weight") => Head::MaskedToken,
        None if has("classifier.weight") => Head::Classify { n_labels },
        None => hidden,
        Some(other) => {
            fields.complain(format!(
                "architectures = [{other:?}] is not implemented; BertModel, BertForMaskedLM, BertForPreTraining and \
                 BertForSequenceClassification are"
            ));
            hidden
        }
    }
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
        attention_scale: _,
        attention_bias: _,
        feed_forward_bias: _,
        tied_head,
        n_token_type,
        head,
        dropout,
        init_std,
    } = config;
    let class = match head {
        Head::Classify { .. } => "BertForSequenceClassification",
        Head::Hidden { .. } => "BertModel",
        Head::MaskedToken | Head::NextToken => "BertForMaskedLM",
    };
    let object = json!({
        "architectures": [class],
        "model_type": "bert",
        "add_cross_attention": false,
        "attention_probs_dropout_prob": dropout,
        "classifier_dropout": null,
        "hidden_act": activation_name(*feed_forward),
        "hidden_dropout_prob": dropout,
        "hidden_size": d_model,
        "initializer_range": init_std,
        "intermediate_size": d_ff,
        "is_decoder": false,
        "layer_norm_eps": norm_eps,
        "max_position_embeddings": context_len,
        "num_attention_heads": n_head,
        "num_hidden_layers": n_layer,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": tied_head,
        "type_vocab_size": n_token_type,
        "use_cache": true,
        "vocab_size": vocab_size,
    });
    object.as_object().cloned()
}
