//! The layouts of model folders: for each family its `config.json` and the names of its tensors, both ways.
//!
//! A layout is one file: what its `config.json` says of a [`ModelConfig`], what it can't say, and a [`Names`] table.

mod bert;
mod gpt2;
mod llama;
mod names;
mod own;

use std::path::Path;

use serde_json::{Map, Value, json};

pub(super) use names::{Names, Stored};

use super::error::Error;
use super::json::Fields;
use crate::config::{Family, FeedForwardKind, Head, ModelConfig};

/// What `config.json` holds beside the model itself: the special tokens and the labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// The token that opens a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end one.
    pub eos_token_id: Vec<u32>,
    /// The token that fills rows up.
    pub pad_token_id: Option<u32>,
    /// A classifier's labels by number; empty = `LABEL_0`, `LABEL_1`, …
    pub labels: Vec<String>,
}

/// A way of laying out a model folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Gpt2,
    Bert,
    Llama,
    /// Vulpes' own, for models that transformers has no class for.
    Own,
}

/// What a `config.json` describes.
pub(super) struct Described {
    pub(super) layout: Layout,
    pub(super) config: ModelConfig,
    pub(super) extra: Extra,
    pub(super) warnings: Vec<String>,
}

impl Layout {
    /// The layout that `config` is written in: its family's, if that can say everything, else Vulpes' own.
    pub(super) fn of(config: &ModelConfig) -> Self {
        match config.family {
            Family::Gpt2 if gpt2::fits(config) => Self::Gpt2,
            Family::Bert if bert::fits(config) => Self::Bert,
            Family::Llama if llama::fits(config) => Self::Llama,
            _ => Self::Own,
        }
    }

    /// What stands before the names of the model proper: nothing in the folder of a bare model.
    pub(super) fn written_prefix(self, config: &ModelConfig) -> &'static str {
        if matches!(config.head, Head::Hidden { .. }) { "" } else { self.names().prefix }
    }

    /// The names of the tensors.
    pub(super) fn names(self) -> &'static Names {
        match self {
            Self::Gpt2 => &gpt2::NAMES,
            Self::Bert => &bert::NAMES,
            Self::Llama => &llama::NAMES,
            Self::Own => &names::OWN,
        }
    }

    /// Reads a `config.json`. `has` tells whether a tensor of that name (without its prefix) is in the folder.
    ///
    /// # Errors
    /// Everything that is not implemented or contradicts itself, at once.
    pub(super) fn read(
        path: &Path,
        object: &Map<String, Value>,
        has: &dyn Fn(Self, &str) -> bool,
    ) -> Result<Described, Error> {
        let mut fields = Fields::new(object, "");
        let mut warnings = Vec::new();
        refuse_quantised(&mut fields);
        let mut extra = Extra::default();
        read_tokens(&mut fields, &mut extra);
        let (layout, config) = match fields.text("model_type") {
            Some("gpt2") => {
                (Self::Gpt2, gpt2::read(&mut fields, &|name| has(Self::Gpt2, name), &mut warnings))
            }
            Some("bert") => {
                extra.labels = bert::read_labels(&mut fields);
                (
                    Self::Bert,
                    bert::read(&mut fields, &|name| has(Self::Bert, name), &extra.labels, &mut warnings),
                )
            }
            Some("llama") => (Self::Llama, llama::read(&mut fields, &|name| has(Self::Llama, name))),
            Some("vulpes") => {
                extra.labels = bert::read_labels(&mut fields);
                (Self::Own, own::read(&mut fields))
            }
            Some(other) => {
                fields.complain(format!(
                    "model_type = {other:?} is not implemented; gpt2, bert, llama and vulpes are"
                ));
                (Self::Own, None)
            }
            None => {
                fields.complain("has no model_type; gpt2, bert, llama or vulpes is wanted".into());
                (Self::Own, None)
            }
        };
        let mut problems = fields.problems;
        match config {
            Some(config) if problems.is_empty() => {
                problems.extend(config.faults().into_iter().map(|fault| fault.message));
                if problems.is_empty() {
                    return Ok(Described { layout, config, extra, warnings });
                }
            }
            _ => {}
        }
        Err(Error::Config { path: path.to_path_buf(), problems })
    }

    /// The `config.json` of a model, with the keys of transformers 4 and 5.
    pub(super) fn write(self, config: &ModelConfig, extra: &Extra, dtype: &str) -> Value {
        let mut object = match self {
            Self::Gpt2 => gpt2::write(config),
            Self::Bert => bert::write(config),
            Self::Llama => llama::write(config),
            Self::Own => own::write(config),
        };
        object.insert("bos_token_id".into(), json!(extra.bos_token_id));
        object.insert("eos_token_id".into(), one_or_many(&extra.eos_token_id));
        object.insert("pad_token_id".into(), json!(extra.pad_token_id));
        if let Head::Classify { n_labels } = config.head {
            let labels: Vec<String> = match extra.labels.len() == n_labels {
                true => extra.labels.clone(),
                false => (0..n_labels).map(|i| format!("LABEL_{i}")).collect(),
            };
            let ids: Map<_, _> = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
            let back: Map<_, _> = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i))).collect();
            object.insert("id2label".into(), ids.into());
            object.insert("label2id".into(), back.into());
            object.insert("problem_type".into(), json!("single_label_classification"));
        }
        object.insert("dtype".into(), json!(dtype));
        object.insert("torch_dtype".into(), json!(dtype));
        object.into()
    }
}

/// `generation_config.json`: the tokens that generation starts and ends with.
pub(super) fn generation_config(extra: &Extra) -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": extra.bos_token_id,
        "eos_token_id": one_or_many(&extra.eos_token_id),
        "pad_token_id": extra.pad_token_id,
    })
}

fn one_or_many(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    }
}

fn refuse_quantised(fields: &mut Fields) {
    for key in ["quantization_config", "compression_config"] {
        if let Some(value) = fields.get(key) {
            let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            fields.complain(format!(
                "{key} (quant_method = {method:?}): quantised files are not read; float32, float16 and bfloat16 are"
            ));
        }
    }
}

fn read_tokens(fields: &mut Fields, extra: &mut Extra) {
    extra.bos_token_id = token(fields, "bos_token_id");
    extra.pad_token_id = token(fields, "pad_token_id");
    extra.eos_token_id = match fields.get("eos_token_id") {
        Some(Value::Array(ids)) => {
            let read: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
            if read.len() != ids.len() {
                fields.complain(format!(
                    "eos_token_id = {} is not a list of token ids",
                    Value::from(ids.clone())
                ));
            }
            read
        }
        _ => token(fields, "eos_token_id").into_iter().collect(),
    };
}

/// A token id; -1, which old configs write for "none", counts as absent.
fn token(fields: &mut Fields, key: &str) -> Option<u32> {
    let value = fields.get(key).filter(|value| value.as_i64() != Some(-1))?;
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    if id.is_none() {
        fields.complain(format!("{key} = {value} is not a token id"));
    }
    id
}

/// The class that `architectures` names, if it names one.
fn architecture<'a>(fields: &mut Fields<'a>) -> Option<&'a str> {
    let value = fields.get("architectures")?;
    match value.as_array().map(Vec::as_slice) {
        Some([]) => None,
        Some([Value::String(name), ..]) => Some(name),
        _ => {
            fields.complain(format!("architectures = {value} is not a list of class names"));
            None
        }
    }
}

/// A feed-forward without a gate, under the names that transformers has for its activation.
fn activation(fields: &mut Fields, key: &str, default: FeedForwardKind) -> FeedForwardKind {
    match fields.text(key) {
        None => default,
        Some("gelu" | "gelu_python") => FeedForwardKind::GeluErf,
        // Five spellings of one function: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate") => {
            FeedForwardKind::GeluTanh
        }
        Some("relu2") => FeedForwardKind::Relu2,
        Some(other) => {
            fields.complain(format!(
                "{key} = {other:?} is not implemented; gelu, gelu_new, gelu_pytorch_tanh and relu2 are"
            ));
            default
        }
    }
}

/// The name that transformers has for the activation of a feed-forward without a gate.
fn activation_name(kind: FeedForwardKind) -> Option<&'static str> {
    match kind {
        FeedForwardKind::GeluErf => Some("gelu"),
        FeedForwardKind::GeluTanh => Some("gelu_new"),
        FeedForwardKind::Relu2 => Some("relu2"),
        FeedForwardKind::None | FeedForwardKind::Swiglu => None,
    }
}

/// The one dropout that stands for several keys: their value, or the largest where they differ, with a warning.
fn dropout(fields: &mut Fields, keys: &[&str], default: f64, warnings: &mut Vec<String>) -> f64 {
    let values: Vec<f64> = keys.iter().map(|key| fields.probability(key).unwrap_or(default)).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    if values.iter().any(|&value| value != largest) {
        warnings
            .push(format!("{} differ; training uses one dropout, the largest: {largest}", keys.join(", ")));
    }
    largest
}

/// `d_model / n_head`, with a complaint where it doesn't come out even.
fn head_width(fields: &mut Fields, (d_key, d_model): (&str, usize), (h_key, n_head): (&str, usize)) -> usize {
    if !d_model.is_multiple_of(n_head) {
        fields.complain(format!("{h_key} = {n_head} does not divide {d_key} = {d_model}"));
    }
    d_model / n_head
}
