//! `config.json` of Llama and of the decoders whose keys are Llama's.

use serde_json::{Map, Value, json};

use super::Reading;
use super::heads::{Classes, causal_class, pad_id, read_causal_head};
use super::rope::{read_flat, whole_heads, written, written_scaling};
use super::words::{gate_name, gated_activation, head_width};
use crate::config::ModelConfig;

/// The differences between the layouts of Llama and its relatives.
pub(super) struct LlamaLike {
    /// Its `model_type` in `config.json`.
    pub(super) model_type: &'static str,
    pub(super) classes: Classes,
    /// The defaults of `config.json`; a `d_head` or `n_kv_head` of 0 follows from the others.
    pub(super) silent: fn() -> ModelConfig,
    /// The default of `pad_token_id`.
    pub(super) pad_id: Option<u32>,
    /// The key of the gate's activation.
    pub(super) activation: &'static str,
    /// Whether `attention_bias` is a key, and whether `mlp_bias` is.
    pub(super) biases: (bool, bool),
    /// Whether there is one rotary setting, read and written here.
    pub(super) one_rope: bool,
    /// Whether transformers refuses a width that is not a multiple of the number of heads.
    pub(super) even_heads: bool,
}

impl LlamaLike {
    /// The config that `config.json` describes; problems go to its fields.
    pub(super) fn read(&self, reading: &mut Reading) -> Option<ModelConfig> {
        let silent = (self.silent)();
        let tied_head = reading.fields.flag("tie_word_embeddings").unwrap_or(silent.tied_head);
        let head = read_causal_head(reading, &self.classes, tied_head, "lm_head.weight");
        let fields = &mut reading.fields;
        let d_model = fields.count("hidden_size").unwrap_or(silent.d_model);
        let n_head = fields.count("num_attention_heads").unwrap_or(silent.n_head);
        let silent_kv = if fields.is_null("num_key_value_heads") { 0 } else { silent.n_kv_head };
        let n_kv_head = fields.count("num_key_value_heads").unwrap_or(silent_kv);
        let n_kv_head = if n_kv_head == 0 { n_head } else { n_kv_head };
        if !n_head.is_multiple_of(n_kv_head) {
            fields.complain(format!(
                "num_key_value_heads = {n_kv_head} does not divide num_attention_heads = {n_head}"
            ));
        }
        let d_head = match fields.count("head_dim").unwrap_or(silent.d_head) {
            0 => head_width(fields, ("hidden_size", d_model), ("num_attention_heads", n_head)),
            d_head => d_head,
        };
        if !d_head.is_multiple_of(2) {
            fields.complain(format!("head_dim = {d_head} is odd; rotary positions rotate pairs of channels"));
        }
        let context_len = fields.count("max_position_embeddings").unwrap_or(silent.context_len);
        let (mut rope_theta, mut rope_scaling) = (silent.rope_theta, silent.rope_scaling);
        if self.one_rope {
            let angles =
                read_flat(fields, context_len, ("rope_theta", silent.rope_theta), "partial_rotary_factor");
            whole_heads(fields, angles);
            (rope_theta, rope_scaling) = (angles.theta, angles.scaling);
        }
        let (of_attention, of_mlp) = self.biases;
        let mut bias = |is_key: bool, key: &str, silent: bool| match is_key {
            true => fields.flag(key).unwrap_or(silent),
            false => silent,
        };
        Some(ModelConfig {
            attention_bias: bias(of_attention, "attention_bias", silent.attention_bias),
            feed_forward_bias: bias(of_mlp, "mlp_bias", silent.feed_forward_bias),
            vocab_size: fields.count("vocab_size").unwrap_or(silent.vocab_size),
            n_layer: fields.count("num_hidden_layers").unwrap_or(silent.n_layer),
            n_head,
            n_kv_head,
            d_model,
            d_head,
            d_ff: fields.count("intermediate_size").unwrap_or(silent.d_ff),
            context_len,
            norm_eps: fields.not_negative("rms_norm_eps").unwrap_or(silent.norm_eps),
            rope_theta,
            rope_scaling,
            feed_forward: gated_activation(fields, self.activation, silent.feed_forward),
            tied_head,
            pad_id: pad_id(fields, head, self.pad_id),
            head,
            dropout: fields.probability("attention_dropout").unwrap_or(0.0),
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
            n_kv_head,
            d_model,
            d_head,
            d_ff,
            context_len,
            block: _,
            norm: _,
            norm_eps,
            positions: _,
            pad_id,
            relative_bias: _,
            rope_theta,
            rotary_fraction: _,
            rope_scaling,
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
        if self.even_heads && !d_model.is_multiple_of(*n_head) {
            // transformers refuses such widths, although head_dim is separate.
            return None;
        }
        let object = json!({
            "architectures": [causal_class(&self.classes, *head)?],
            "model_type": self.model_type,
            "attention_dropout": dropout,
            "head_dim": d_head,
            self.activation: gate_name(*feed_forward)?,
            "hidden_size": d_model,
            "initializer_range": init_std,
            "intermediate_size": d_ff,
            "max_position_embeddings": context_len,
            "num_attention_heads": n_head,
            "num_hidden_layers": n_layer,
            "num_key_value_heads": n_kv_head,
            "rms_norm_eps": norm_eps,
            "tie_word_embeddings": tied_head,
            "use_cache": true,
            "vocab_size": vocab_size,
        });
        let mut object = object.as_object().cloned()?;
        let mut say = |key: &str, value: Value| object.insert(key.into(), value);
        let (of_attention, of_mlp) = self.biases;
        if of_attention {
            say("attention_bias", json!(attention_bias));
        }
        if of_mlp {
            say("mlp_bias", json!(feed_forward_bias));
        }
        if self.one_rope {
            say("rope_parameters", written(*rope_theta, *rope_scaling));
            say("rope_scaling", json!(written_scaling(*rope_scaling)));
            say("rope_theta", json!(rope_theta));
        }
        if pad_id.is_some() {
            say("pad_token_id", json!(pad_id));
        }
        Some(object)
    }
}
