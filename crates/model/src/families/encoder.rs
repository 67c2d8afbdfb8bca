//! `config.json` of BERT and of the encoders whose keys are BERT's.

use serde_json::{Map, Value, json};

use super::Reading;
use super::heads::{EncoderClasses, encoder_class, read_encoder_head, written_pad_id};
use super::words::{activation, activation_name, dropout, head_width};
use crate::config::{ModelConfig, Positions};

/// The differences between the layouts of BERT and its relatives.
pub(super) struct BertLike {
    /// Its `model_type` in `config.json`.
    pub(super) model_type: &'static str,
    pub(super) classes: EncoderClasses,
    /// The defaults of `config.json`.
    pub(super) silent: fn() -> ModelConfig,
    /// The id after which positions count, if that isn't `pad_token_id`.
    pub(super) pad_id: Option<u32>,
}

impl BertLike {
    /// The config that `config.json` describes; problems go to its fields.
    pub(super) fn read(&self, reading: &mut Reading) -> Option<ModelConfig> {
        let silent = (self.silent)();
        let head = read_encoder_head(reading, &self.classes, "*pooler.dense");
        let Reading { fields, has: _, warnings, labels: _ } = reading;
        let d_model = fields.count("hidden_size").unwrap_or(silent.d_model);
        let n_head = fields.count("num_attention_heads").unwrap_or(silent.n_head);
        for key in ["is_decoder", "add_cross_attention"] {
            fields.only(key, false);
        }
        let mut dropouts = vec!["hidden_dropout_prob", "attention_probs_dropout_prob"];
        if fields.get("classifier_dropout").is_some() {
            dropouts.push("classifier_dropout");
        }
        if let Some(other) = fields.text("position_embedding_type").filter(|kind| *kind != "absolute") {
            fields
                .complain(format!("position_embedding_type = {other:?} is not implemented; \"absolute\" is"));
        }
        let n_position = fields.count("max_position_embeddings").unwrap_or(512);
        let (mut context_len, mut pad_id) = (n_position, None);
        if silent.positions == Positions::Counted {
            pad_id = self.pad_id.or(written_pad_id(fields, silent.pad_id));
            if pad_id.is_none() {
                fields.complain("pad_token_id is null: positions count from it on, so it is needed".into());
            }
            let first = pad_id.map_or(0, |id| id as usize) + 1;
            context_len = n_position.saturating_sub(first);
            if context_len == 0 {
                fields.complain(format!(
                    "max_position_embeddings = {n_position} leaves no position: they count from {first} on"
                ));
            }
        }
        let n_token_type = match silent.n_token_type {
            0 => 0,
            n => fields.count("type_vocab_size").unwrap_or(n),
        };
        let relative_bias =
            silent.relative_bias.map(|n| fields.count("relative_attention_num_buckets").unwrap_or(n));
        Some(ModelConfig {
            vocab_size: fields.count("vocab_size").unwrap_or(silent.vocab_size),
            n_layer: fields.count("num_hidden_layers").unwrap_or(12),
            n_head,
            n_kv_head: n_head,
            d_model,
            d_head: head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
            d_ff: fields.count("intermediate_size").unwrap_or(3072),
            context_len,
            norm_eps: fields.not_negative("layer_norm_eps").unwrap_or(1e-12),
            pad_id,
            relative_bias,
            feed_forward: activation(fields, "hidden_act", silent.feed_forward),
            tied_head: fields.flag("tie_word_embeddings").unwrap_or(true),
            n_token_type,
            head,
            dropout: dropout(fields, &dropouts, 0.1, warnings),
            init_std: fields.positive("initializer_range").unwrap_or(0.02),
            ..silent
        })
    }

    /// The `config.json` of a model. A setting that it can't express shows when it is read back.
    pub(super) fn write(&self, config: &ModelConfig) -> Option<Map<String, Value>> {
        let ModelConfig {
            family: _,
            vocab_size,
            n_layer,
            n_head,
            n_kv_head: _,
            d_model,
            d_head: _,
            d_ff,
            context_len: _,
            block: _,
            norm: _,
            norm_eps,
            positions,
            pad_id,
            relative_bias,
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
            n_token_type,
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
            "architectures": [encoder_class(&self.classes, *head)?],
            "model_type": self.model_type,
            "attention_probs_dropout_prob": dropout,
            "hidden_act": activation_name(*feed_forward)?,
            "hidden_dropout_prob": dropout,
            "hidden_size": d_model,
            "initializer_range": init_std,
            "intermediate_size": d_ff,
            "layer_norm_eps": norm_eps,
            "max_position_embeddings": config.n_position(),
            "num_attention_heads": n_head,
            "num_hidden_layers": n_layer,
            "tie_word_embeddings": tied_head,
            "vocab_size": vocab_size,
        });
        let mut object = object.as_object().cloned()?;
        let mut say = |key: &str, value: Value| object.insert(key.into(), value);
        match relative_bias {
            Some(rows) => {
                say("relative_attention_num_buckets", json!(rows));
            }
            None => {
                say("add_cross_attention", json!(false));
                say("classifier_dropout", Value::Null);
                say("is_decoder", json!(false));
                say("position_embedding_type", json!("absolute"));
                say("type_vocab_size", json!(n_token_type));
                say("use_cache", json!(true));
            }
        }
        if *positions == Positions::Counted && self.pad_id.is_none() {
            say("pad_token_id", json!(pad_id));
        }
        Some(object)
    }
}
