//! Granite: preset and folders, `GraniteForCausalLM` and `GraniteModel`.

use serde_json::{Map, Value, json};

use super::decoder::LlamaLike;
use super::heads::Classes;
use super::{About, Definition, Folder, Reading, llama};
use crate::config::{Family, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "granite", about: ABOUT, names: llama::NAMES, read, write }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["GraniteForCausalLM", "GraniteModel"],
    says: "as `llama`; multipliers of embedding, branches, scores and logits",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig { family: Family::Granite, vocab_size: 49_155, tied_head: true, ..llama::preset() }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "granite",
    classes: Classes { causal: "GraniteForCausalLM", bare: "GraniteModel", classify: None },
    silent: || ModelConfig { family: Family::Granite, ..llama::silent() },
    pad_id: None,
    activation: "hidden_act",
    biases: (true, true),
    one_rope: true,
    even_heads: false,
};

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let config = LIKE.read(reading)?;
    let mut factor = |key: &str| reading.fields.positive(key).unwrap_or(1.0);
    let scale = factor("attention_multiplier");
    Some(ModelConfig {
        attention_scale: (scale != default_scale(&config)).then_some(scale),
        residual_multiplier: factor("residual_multiplier"),
        embedding_scale: factor("embedding_multiplier"),
        logit_divisor: factor("logits_scaling"),
        ..config
    })
}

/// The `config.json` of a model. A setting that it can't express shows when it is read back.
fn write(config: &ModelConfig) -> Option<Map<String, Value>> {
    let mut object = LIKE.write(config)?;
    object.insert("attention_multiplier".into(), json!(config.scale()));
    object.insert("residual_multiplier".into(), json!(config.residual_multiplier));
    object.insert("embedding_multiplier".into(), json!(config.embedding_scale));
    object.insert("logits_scaling".into(), json!(config.logit_divisor));
    Some(object)
}

fn default_scale(config: &ModelConfig) -> f64 {
    ModelConfig { attention_scale: None, ..config.clone() }.scale()
}
