//! Granite: its preset, and its folders, `GraniteForCausalLM` and `GraniteModel`.

use serde_json::{Map, Value, json};

use super::decoder::LlamaLike;
use super::heads::Classes;
use super::{About, Definition, Folder, Reading, llama};
use crate::config::{Family, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "granite", about: ABOUT, names: llama::NAMES, read, write }),
};

/// For the reader of README.
const ABOUT: About = About {
    classes: &["GraniteForCausalLM", "GraniteModel"],
    says: "as `llama`; factors on embedding, branches, scores and logits",
};

/// What a config has where it is silent.
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

/// What `config.json` says; complaints go to its fields.
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

/// The `config.json` of a model; what it leaves out shows when it is read back.
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
