//! What of a head goes along: that of the next token, or an encoder's classifier.

use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use vulpes_model::config::{ActivationKind, ClassifierKind, Pooling};
use vulpes_model::folder::Extra;
use vulpes_model::{Head, ModelConfig};

use super::Keys;
use super::architecture::{Architecture, HeadForm};
use super::keys::count;
use crate::error::{Error, Result};

/// `llama_pooling_type` of llama.h.
const MEAN: usize = 1;
const FIRST: usize = 2;
const LAST: usize = 3;
const RANK: usize = 4;

/// What of the head is left aside or taken from elsewhere.
///
/// # Errors
/// If llama.cpp has no such head for this architecture.
pub(super) fn notes(architecture: &Architecture, config: &ModelConfig) -> Result<Option<String>> {
    let refuse = |reason: &str| Err(architecture.refuses(vec![reason.to_owned()]));
    match (architecture.head, config.head) {
        (HeadForm::Next { .. }, Head::NextToken) => Ok(None),
        (HeadForm::Next { own: false, .. }, Head::Hidden { .. }) => Ok(Some(
            "the model has no head: what llama.cpp says of the next token comes from the embedding".into(),
        )),
        (HeadForm::Next { .. }, Head::Hidden { .. }) => refuse("it has no head, and must have one there"),
        (HeadForm::Next { .. }, Head::Classify { .. }) => {
            refuse("it is a classifier, and can't be one there")
        }
        (HeadForm::Next { .. }, Head::MaskedToken) => refuse("it fills masks, and can't do so there"),
        (HeadForm::Encoder, Head::NextToken) => refuse("it gives the next token, and can't do so there"),
        (HeadForm::Encoder, Head::MaskedToken) => {
            Ok(Some("llama.cpp has no head for masked tokens: the file gives embeddings only".into()))
        }
        (HeadForm::Encoder, Head::Hidden { pooler: true }) => {
            Ok(Some("the pooler, which nothing reads, is left aside".into()))
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
                ("bert", ..) => refuse(
                    "its classifier is another than dense, tanh and projection on the first token's vector",
                ),
                _ => refuse(
                    "its classifier is another than dense, GELU, norm and projection on the mean of the vectors",
                ),
            }
        }
    }
}

/// llama.cpp's name of a module of an encoder's head; `None` for what goes aside.
pub(super) fn named(config: &ModelConfig, module: &str) -> Option<&'static str> {
    match (config.head, module) {
        (Head::Classify { .. }, "head.pooler" | "head.transform") => Some("cls"),
        (Head::Classify { .. }, "head.norm") => Some("cls.norm"),
        (Head::Classify { .. }, "head.classifier") => Some("cls.output"),
        _ => None,
    }
}

/// The keys of an encoder's answer: which vector it is, and a classifier's labels.
///
/// # Errors
/// If a sentence encoder pools as llama.cpp doesn't.
pub(super) fn keys(
    architecture: &Architecture,
    config: &ModelConfig,
    extra: &Extra,
    folder: &Path,
) -> Result<Keys> {
    let mut keys = Keys::new();
    if architecture.head != HeadForm::Encoder {
        return Ok(keys);
    }
    let name = architecture.name;
    let mut say = |key: &str, value: Value| keys.push((format!("{name}.{key}"), value));
    if let Some(n_labels) = config.head.n_labels() {
        say("pooling_type", count(RANK));
        let label = |number: usize| {
            let own = extra.labels.get(number).cloned();
            Value::String(own.unwrap_or_else(|| format!("LABEL_{number}")))
        };
        say("classifier.output_labels", Value::Array((0..n_labels).map(label).collect()));
    } else {
        say("pooling_type", count(pooling(architecture, folder)?));
    }
    if name == "bert" {
        // llama.cpp wants a number above none, and a model without token types has no table of them.
        keys.push(("tokenizer.ggml.token_type_count".into(), count(config.n_token_type.max(1))));
    }
    Ok(keys)
}

/// How a sentence's vector comes of its tokens': as the folder of a sentence encoder says, else by the mean.
fn pooling(architecture: &Architecture, folder: &Path) -> Result<usize> {
    let path = folder.join("1_Pooling").join("config.json");
    if !path.is_file() {
        return Ok(MEAN);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
    let config: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Error::Read { path: path.clone(), source: std::io::Error::other(error) })?;
    let flag = |mode: &str| {
        config[format!("pooling_mode_{mode}")].as_bool().unwrap_or(false)
            || config["pooling_mode"].as_str()
                == Some(mode.trim_end_matches("_tokens").trim_end_matches("_token"))
    };
    let known = [("mean_tokens", MEAN), ("cls_token", FIRST), ("lasttoken", LAST)];
    let asked: Vec<usize> = known.iter().filter(|(mode, _)| flag(mode)).map(|(_, number)| *number).collect();
    let others = ["max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"];
    match asked[..] {
        [one] if !others.iter().any(|mode| flag(mode)) => Ok(one),
        _ => {
            let reason = "1_Pooling/config.json asks for another pooling than mean, cls or lasttoken alone";
            Err(architecture.refuses(vec![reason.into()]))
        }
    }
}
