//! Whether an architecture of llama.cpp can represent a model, by comparing the resulting config.
//!
//! It can if the config that the file describes equals the model's own.

use serde_json::{Map, Value};
use vulpes_model::ModelConfig;
use vulpes_model::config::{Family, MaskKind};
use vulpes_model::gguf::{ARCHITECTURES, Architecture, Biases, Factors, HeadForm};

use crate::error::{Error, Result};

/// The architecture that represents `config`.
///
/// # Errors
/// Returns an error that names every difference if there is none for its family, or it can't represent all of it.
pub(super) fn architecture(config: &ModelConfig) -> Result<&'static Architecture> {
    let Some(found) = ARCHITECTURES.iter().find(|known| known.families.contains(&config.family)) else {
        let known: Vec<String> = ARCHITECTURES.iter().flat_map(|known| known.families).map(word).collect();
        let reason = format!(
            "it has no architecture for {}; supported are {}",
            word(&config.family),
            known.join(", ")
        );
        return Err(Error::Architecture { form: "llama.cpp".into(), reasons: vec![reason] });
    };
    let reasons = differences(config, &said(found, config));
    match reasons.is_empty() {
        true => Ok(found),
        false => Err(refusal(found, reasons)),
    }
}

/// The error of a model that an architecture can't represent.
pub(super) fn refusal(architecture: &Architecture, reasons: Vec<String>) -> Error {
    Error::Architecture { form: format!("llama.cpp's {}", architecture.name), reasons }
}

/// What llama.cpp computes differently from this model.
pub(super) fn notes(architecture: &Architecture, config: &ModelConfig) -> Option<String> {
    let (computed, words) = architecture.computes.filter(|(computed, _)| *computed != config.feed_forward)?;
    debug_assert!(architecture.activations.contains(&computed));
    Some(format!("llama.cpp computes {words}, so its results differ slightly from the model's"))
}

/// The config that a file of this architecture describes, with the values of `config` where a file has a key for them.
fn said(architecture: &Architecture, config: &ModelConfig) -> ModelConfig {
    let ModelConfig {
        family,
        vocab_size,
        n_layer,
        n_head,
        n_kv_head,
        d_model,
        d_head,
        d_ff,
        context_len,
        block,
        norm: _,
        norm_eps,
        positions,
        pad_id,
        relative_bias: _,
        rope_theta,
        rotary_fraction,
        rope_scaling,
        feed_forward,
        mask: _,
        window,
        layers,
        attention_scale: _,
        qk_norm: _,
        attention_bias,
        attention_output_bias,
        feed_forward_bias,
        residual_multiplier,
        embedding_scale,
        embedding_norm: _,
        skip_first_norm,
        tied_head,
        n_token_type,
        head_bias,
        head_dense_bias,
        head_activation,
        classifier,
        pooling,
        logit_divisor,
        logit_softcap,
        head,
        dropout,
        init_std,
        embedding_init,
        head_init,
        branch_init,
        value_embeddings: _,
        bigrams: _,
    } = config.clone();
    let width = if architecture.own_head_width { d_head } else { d_model / n_head.max(1) };
    let (gemma, granite) = (architecture.factors == Factors::Gemma, architecture.factors == Factors::Granite);
    ModelConfig {
        family,
        vocab_size,
        n_layer,
        n_head,
        n_kv_head: if architecture.mask == MaskKind::Full { n_head } else { n_kv_head },
        d_model,
        d_head: width,
        d_ff,
        context_len,
        block: one_of(architecture.blocks, block),
        norm: architecture.norm,
        norm_eps,
        positions: one_of(architecture.positions, positions),
        pad_id,
        relative_bias: None,
        rope_theta,
        rotary_fraction: if architecture.rotates_part { rotary_fraction } else { 1.0 },
        rope_scaling,
        feed_forward: one_of(architecture.activations, feed_forward),
        mask: architecture.mask,
        window,
        layers,
        attention_scale: attention_scale(architecture, config),
        qk_norm: architecture.qk_norm,
        attention_bias: attention_bias || architecture.biases == Biases::All,
        attention_output_bias: match architecture.biases {
            Biases::All => attention_output_bias.filter(|has| *has),
            Biases::Any => attention_output_bias,
            Biases::Inputs if attention_bias => Some(false),
            Biases::Inputs => attention_output_bias.filter(|has| !has),
        },
        feed_forward_bias: match architecture.biases {
            Biases::All => true,
            Biases::Any => feed_forward_bias,
            Biases::Inputs => false,
        },
        residual_multiplier: if granite { residual_multiplier } else { 1.0 },
        embedding_scale: match architecture.factors {
            Factors::Plain => 1.0,
            Factors::Gemma => (d_model as f64).sqrt(),
            Factors::Granite => embedding_scale,
        },
        embedding_norm: architecture.embedding_norm,
        skip_first_norm: skip_first_norm && architecture.name == "modern-bert",
        tied_head,
        n_token_type: if architecture.head == HeadForm::Encoder { n_token_type } else { 0 },
        head_bias: match architecture.head {
            HeadForm::Next { bias: true, .. } => Some(true),
            HeadForm::Next { .. } => head_bias.filter(|has| !has),
            HeadForm::Encoder => head_bias,
        },
        head_dense_bias,
        head_activation,
        classifier,
        pooling,
        logit_divisor: if granite { logit_divisor } else { 1.0 },
        logit_softcap: logit_softcap.filter(|_| gemma),
        head,
        dropout,
        init_std,
        embedding_init,
        head_init,
        branch_init,
        value_embeddings: 0,
        bigrams: false,
    }
}

/// The factor on q·k as a config states it, of those that llama.cpp uses.
fn attention_scale(architecture: &Architecture, config: &ModelConfig) -> Option<f64> {
    let own = config.attention_scale;
    let wide = (config.d_model as f64 / config.n_head.max(1) as f64).sqrt().recip();
    match architecture.factors {
        Factors::Granite => own,
        // Recognized by its number of layers: Gemma 3 27B.
        Factors::Gemma if config.n_layer == 62 => own.filter(|scale| near(*scale, wide)).or(Some(wide)),
        Factors::Gemma | Factors::Plain => {
            own.filter(|scale| near(*scale, (config.d_head as f64).sqrt().recip()))
        }
    }
}

/// Whether two factors are equal up to rounding.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

/// `wanted` if it is known, else the first known one.
fn one_of<T: Copy + PartialEq>(known: &[T], wanted: T) -> T {
    match known.first() {
        Some(first) if !known.contains(&wanted) => *first,
        _ => wanted,
    }
}

fn word(family: &Family) -> String {
    serde_json::to_value(family).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A description of every key in which two configs differ.
fn differences(own: &ModelConfig, said: &ModelConfig) -> Vec<String> {
    let table = |config: &ModelConfig| match serde_json::to_value(config) {
        Ok(Value::Object(table)) => table,
        _ => Map::new(),
    };
    let (own, said) = (table(own), table(said));
    let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
    let mut keys: Vec<&String> =
        own.keys().chain(said.keys().filter(|key| !own.contains_key(*key))).collect();
    keys.retain(|key| own.get(*key) != said.get(*key));
    keys.iter()
        .map(|key| format!("{key} = {}, but it has {}", shown(own.get(*key)), shown(said.get(*key))))
        .collect()
}
