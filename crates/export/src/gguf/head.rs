//! The exported head: that of the next token, or an encoder's classifier.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use vulpes_model::config::{ActivationKind, ClassifierKind, Pooling};
use vulpes_model::folder::Extra;
use vulpes_model::gguf::{Architecture, HeadForm, keys};
use vulpes_model::{Head, ModelConfig};

use super::Keys;
use super::keys::count;
use super::said::refusal;
use crate::error::{Error, Result};

/// Notes on what of the head is left out or replaced.
///
/// # Errors
/// Returns an error if llama.cpp has no such head for this architecture.
pub(super) fn notes(architecture: &Architecture, config: &ModelConfig) -> Result<Option<String>> {
    let refuse = |reason: &str| Err(refusal(architecture, vec![reason.to_owned()]));
    match (architecture.head, config.head) {
        (HeadForm::Next { .. }, Head::NextToken) => Ok(None),
        (HeadForm::Next { own: false, .. }, Head::Hidden { .. }) => {
            Ok(Some("the model has no head: llama.cpp predicts the next token with the embedding".into()))
        }
        (HeadForm::Next { .. }, Head::Hidden { .. }) => refuse("it has no head, but needs one there"),
        (HeadForm::Next { .. }, Head::Classify { .. }) => {
            refuse("it is a classifier, which this architecture can't be")
        }
        (HeadForm::Next { .. }, Head::MaskedToken) => {
            refuse("it fills masks, which this architecture can't do")
        }
        (HeadForm::Encoder, Head::NextToken) => {
            refuse("it predicts the next token, which this architecture can't do")
        }
        (HeadForm::Encoder, Head::MaskedToken) => {
            Ok(Some("llama.cpp has no head for masked tokens: the file yields embeddings only".into()))
        }
        (HeadForm::Encoder, Head::Hidden { pooler: true }) => {
            Ok(Some("the unused pooler is left out".into()))
        }
        (HeadForm::Encoder, Head::Hidden { pooler: false }) => Ok(None),
        (HeadForm::Encoder, Head::Classify { .. }) => {
            match (architecture.name, config.classifier, config.pooling) {
                ("bert", ClassifierKind::Pooler, Pooling::First) => Ok(None),
                ("modern-bert", ClassifierKind::Transform, Pooling::Mean)
                    if !config.head_dense_bias
                        && matches!(
                            config.head_activation,
                            Some(ActivationKind::GeluErf | ActivationKind::GeluTanh)
                        ) =>
                {
                    Ok(None)
                }
                ("bert", ..) => {
                    refuse("its classifier is not dense, tanh and projection on the first token's vector")
                }
                _ => refuse(
                    "its classifier is not dense, GELU, norm and projection on the mean of the vectors",
                ),
            }
        }
    }
}

/// The keys of an encoder's result: its pooling, and a classifier's labels.
///
/// # Errors
/// Returns an error if a sentence encoder pools as llama.cpp can't.
pub(super) fn keys(
    architecture: &Architecture,
    config: &ModelConfig,
    extra: &Extra,
    folder: &Path,
) -> Result<Keys> {
    let mut said = Keys::new();
    if architecture.head != HeadForm::Encoder {
        return Ok(said);
    }
    let name = architecture.name;
    let mut say = |key: &str, value: Value| said.push((format!("{name}.{key}"), value));
    if let Some(n_labels) = config.head.n_labels() {
        say(keys::POOLING, count(keys::RANK));
        let label = |number: usize| {
            let own = extra.labels.get(number).cloned();
            Value::String(own.unwrap_or_else(|| format!("LABEL_{number}")))
        };
        say(keys::LABELS, Value::Array((0..n_labels).map(label).collect()));
    } else {
        say(keys::POOLING, count(pooling(architecture, folder)?));
    }
    if name == "bert" {
        // llama.cpp needs a number above 0, and a model without token types has no table of them.
        said.push(("tokenizer.ggml.token_type_count".into(), count(config.n_token_type.max(1))));
    }
    Ok(said)
}

/// How a text's vector is pooled: as the folder of a sentence encoder says, else by the mean.
fn pooling(architecture: &Architecture, folder: &Path) -> Result<usize> {
    let path = folder.join("1_Pooling").join("config.json");
    if !path.is_file() {
        return Ok(keys::MEAN);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
    let config: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::Read { path: path.clone(), source: std::io::Error::other(error) })?;
    let flag = |mode: &str| {
        config[format!("pooling_mode_{mode}")].as_bool().unwrap_or(false)
            || config["pooling_mode"].as_str()
                == Some(mode.trim_end_matches("_tokens").trim_end_matches("_token"))
    };
    let known = [("mean_tokens", keys::MEAN), ("cls_token", keys::FIRST), ("lasttoken", keys::LAST)];
    let asked: Vec<usize> = known.iter().filter(|(mode, _)| flag(mode)).map(|(_, number)| *number).collect();
    let others = ["max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"];
    match asked[..] {
        [one] if !others.iter().any(|mode| flag(mode)) => Ok(one),
        _ => {
            let reason = "1_Pooling/config.json has another pooling than a single mean, cls or lasttoken";
            Err(refusal(architecture, vec![reason.into()]))
        }
    }
}
