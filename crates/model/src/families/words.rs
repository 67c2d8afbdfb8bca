//! Keys that several families' `config.json` share: classes, activations, dropouts, widths, labels.

use serde_json::Value;

use super::fields::Fields;
use crate::config::{ActivationKind, FeedForwardKind};

/// The class in `architectures`, if there is one.
pub(crate) fn architecture<'a>(fields: &mut Fields<'a>) -> Option<&'a str> {
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

/// A feed-forward sublayer without a gate, by transformers' names of its activation.
pub(crate) fn activation(fields: &mut Fields, key: &str, default: FeedForwardKind) -> FeedForwardKind {
    match fields.text(key) {
        None => default,
        Some("gelu" | "gelu_python") => FeedForwardKind::GeluErf,
        // Five spellings of one function: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_fast" | "gelu_accurate") => {
            FeedForwardKind::GeluTanh
        }
        Some("relu2") => FeedForwardKind::Relu2,
        Some("relu") => FeedForwardKind::Relu,
        Some("silu" | "swish") => FeedForwardKind::Silu,
        Some(other) => {
            fields.complain(format!(
                "{key} = {other:?} is not implemented; gelu, gelu_new, gelu_pytorch_tanh, relu, relu2 and silu are"
            ));
            default
        }
    }
}

/// A feed-forward sublayer with a gate, by transformers' names of the gate's activation.
pub(crate) fn gated_activation(fields: &mut Fields, key: &str, default: FeedForwardKind) -> FeedForwardKind {
    match activation(fields, key, default) {
        FeedForwardKind::Silu => FeedForwardKind::Swiglu,
        FeedForwardKind::GeluErf => FeedForwardKind::GegluErf,
        FeedForwardKind::GeluTanh => FeedForwardKind::GegluTanh,
        FeedForwardKind::Relu => FeedForwardKind::Reglu,
        FeedForwardKind::Relu2 => {
            fields.complain(format!(
                "{key} = \"relu2\" is not implemented for a gate; gelu, gelu_pytorch_tanh, relu and silu are"
            ));
            default
        }
        gated => gated,
    }
}

/// A separate activation, by the same names.
pub(crate) fn head_activation(fields: &mut Fields, key: &str) -> Option<ActivationKind> {
    fields.text(key)?;
    match activation(fields, key, FeedForwardKind::None) {
        FeedForwardKind::GeluErf => Some(ActivationKind::GeluErf),
        FeedForwardKind::GeluTanh => Some(ActivationKind::GeluTanh),
        FeedForwardKind::Silu => Some(ActivationKind::Silu),
        FeedForwardKind::Relu => Some(ActivationKind::Relu),
        FeedForwardKind::Relu2 => Some(ActivationKind::Relu2),
        FeedForwardKind::None
        | FeedForwardKind::Swiglu
        | FeedForwardKind::GegluTanh
        | FeedForwardKind::GegluErf
        | FeedForwardKind::Reglu => None,
    }
}

/// transformers' name of an activation.
pub(crate) fn head_activation_name(kind: ActivationKind) -> &'static str {
    match kind {
        ActivationKind::GeluErf => "gelu",
        ActivationKind::GeluTanh => "gelu_new",
        ActivationKind::Silu => "silu",
        ActivationKind::Relu => "relu",
        ActivationKind::Relu2 => "relu2",
    }
}

/// transformers' name of a gate's activation.
pub(crate) fn gate_name(kind: FeedForwardKind) -> Option<&'static str> {
    match kind {
        FeedForwardKind::Swiglu => Some("silu"),
        FeedForwardKind::GegluErf => Some("gelu"),
        FeedForwardKind::GegluTanh => Some("gelu_pytorch_tanh"),
        FeedForwardKind::Reglu => Some("relu"),
        FeedForwardKind::None
        | FeedForwardKind::GeluTanh
        | FeedForwardKind::GeluErf
        | FeedForwardKind::Relu2
        | FeedForwardKind::Relu
        | FeedForwardKind::Silu => None,
    }
}

/// transformers' name of the activation of a feed-forward sublayer without a gate.
pub(crate) fn activation_name(kind: FeedForwardKind) -> Option<&'static str> {
    match kind {
        FeedForwardKind::GeluErf => Some("gelu"),
        FeedForwardKind::GeluTanh => Some("gelu_new"),
        FeedForwardKind::Relu2 => Some("relu2"),
        FeedForwardKind::Relu => Some("relu"),
        FeedForwardKind::Silu => Some("silu"),
        FeedForwardKind::None
        | FeedForwardKind::Swiglu
        | FeedForwardKind::GegluTanh
        | FeedForwardKind::GegluErf
        | FeedForwardKind::Reglu => None,
    }
}

/// The single dropout for several keys: their value, or the largest if they differ, with a warning.
pub(crate) fn dropout(fields: &mut Fields, keys: &[&str], default: f64, warnings: &mut Vec<String>) -> f64 {
    let values: Vec<f64> = keys.iter().map(|key| fields.probability(key).unwrap_or(default)).collect();
    let largest = values.iter().copied().fold(0.0, f64::max);
    if values.iter().any(|&value| value != largest) {
        warnings
            .push(format!("{} differ; training uses one dropout, the largest: {largest}", keys.join(", ")));
    }
    largest
}

/// `d_model / n_head`; adds a problem if that is not an integer.
pub(crate) fn head_width(
    fields: &mut Fields,
    (d_key, d_model): (&str, usize),
    (h_key, n_head): (&str, usize),
) -> usize {
    if !d_model.is_multiple_of(n_head) {
        fields.complain(format!("{h_key} = {n_head} does not divide {d_key} = {d_model}"));
    }
    d_model / n_head
}

/// The labels of `id2label`, or `num_labels` generated ones; empty if both are absent.
pub(crate) fn read_labels(fields: &mut Fields) -> Vec<String> {
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
