//! BERT's layout: `BertModel`, `BertForMaskedLM`, `BertForPreTraining`, `BertForSequenceClassification`.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::{activation, activation_name, architecture, dropout, head_width};
use crate::config::{BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions};
use crate::folder::json::Fields;

/// BERT's tensors. Files from TensorFlow's days call a norm's weight and bias gamma and beta.
pub(super) const NAMES: Names = Names {
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

/// Whether BERT's `config.json` can say all of `config`.
pub(super) fn fits(config: &ModelConfig) -> bool {
    config.block == BlockKind::Post
        && config.norm == NormKind::Layer
        && config.positions == Positions::Learned
        && config.mask == MaskKind::Full
        && config.window.is_none()
        && config.attention_scale.is_none()
        && config.attention_bias
        && config.feed_forward_bias
        && config.n_kv_head == config.n_head
        && config.n_head * config.d_head == config.d_model
        && config.n_token_type > 0
        && activation_name(config.feed_forward).is_some()
        && config.head != Head::NextToken
}

/// What `config.json` says; complaints go to `fields`.
pub(super) fn read(
    fields: &mut Fields,
    has: &dyn Fn(&str) -> bool,
    labels: &[String],
    warnings: &mut Vec<String>,
) -> Option<ModelConfig> {
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
        family: Family::Bert,
        vocab_size: fields.count("vocab_size").unwrap_or(30522),
        n_layer: fields.count("num_hidden_layers").unwrap_or(12),
        n_head,
        n_kv_head: n_head,
        d_model,
        d_head: head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
        d_ff: fields.count("intermediate_size").unwrap_or(3072),
        context_len: fields.count("max_position_embeddings").unwrap_or(512),
        block: BlockKind::Post,
        norm: NormKind::Layer,
        norm_eps: fields.not_negative("layer_norm_eps").unwrap_or(1e-12),
        positions: Positions::Learned,
        rope_theta: 10_000.0,
        rope_scaling: None,
        feed_forward: activation(fields, "hidden_act", FeedForwardKind::GeluErf),
        mask: MaskKind::Full,
        window: None,
        attention_scale: None,
        attention_bias: true,
        feed_forward_bias: true,
        tied_head: fields.flag("tie_word_embeddings").unwrap_or(true),
        n_token_type: fields.count("type_vocab_size").unwrap_or(2),
        head: read_head(fields, has, labels),
        dropout: dropout(fields, &dropouts, 0.1, warnings),
        init_std: fields.positive("initializer_range").unwrap_or(0.02),
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

/// The labels of `id2label`, or as many made-up ones as `num_labels` says; none where both are absent.
pub(super) fn read_labels(fields: &mut Fields) -> Vec<String> {
    let count = fields.count("num_labels");
    let Some(value) = fields.get("id2label") else {
        return (0..count.unwrap_or(0).min(1 << 20)).map(|i| format!("LABEL_{i}")).collect();
    };
    let labels: Option<Vec<String>> = value.as_object().and_then(|by_id| {
        (0..by_id.len()).map(|id| Some(by_id.get(&id.to_string())?.as_str()?.to_string())).collect()
    });
    match labels {
        Some(labels) if count.is_none_or(|count| count == labels.len()) => labels,
        Some(labels) => {
            fields.complain(format!("num_labels = {} but id2label has {}", count.unwrap_or(0), labels.len()));
            labels
        }
        None => {
            fields.complain("id2label is not a map from \"0\", \"1\", … to the names of the labels".into());
            Vec::new()
        }
    }
}

/// The `config.json` of a model that [`fits`].
pub(super) fn write(config: &ModelConfig) -> Map<String, Value> {
    let class = match config.head {
        Head::Classify { .. } => "BertForSequenceClassification",
        Head::Hidden { .. } => "BertModel",
        Head::MaskedToken | Head::NextToken => "BertForMaskedLM",
    };
    let object = json!({
        "architectures": [class],
        "model_type": "bert",
        "add_cross_attention": false,
        "attention_probs_dropout_prob": config.dropout,
        "classifier_dropout": null,
        "hidden_act": activation_name(config.feed_forward),
        "hidden_dropout_prob": config.dropout,
        "hidden_size": config.d_model,
        "initializer_range": config.init_std,
        "intermediate_size": config.d_ff,
        "is_decoder": false,
        "layer_norm_eps": config.norm_eps,
        "max_position_embeddings": config.context_len,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": config.tied_head,
        "type_vocab_size": config.n_token_type,
        "use_cache": true,
        "vocab_size": config.vocab_size,
    });
    object.as_object().cloned().unwrap_or_default()
}
