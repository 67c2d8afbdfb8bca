//! How positions turn queries and keys, and what single layers have otherwise than the rest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kinds::Positions;

/// How rotary frequencies are stretched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingKind {
    /// Llama 3.1's rule: slow frequencies are divided by the factor, fast ones kept.
    #[default]
    Llama3,
    /// All are divided by the factor; its other three numbers say nothing ([Chen et al. 2023](https://arxiv.org/abs/2306.15595)).
    Linear,
}

/// Stretching of the rotary frequencies to longer contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// By which rule.
    #[serde(default, skip_serializing_if = "is_llama3")]
    pub kind: ScalingKind,
    /// How much the slow frequencies are slowed.
    pub factor: f64,
    /// Wavelengths above `original_context_len / low_freq_factor` are slowed in full.
    #[serde(default = "one")]
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context_len / high_freq_factor` are kept.
    #[serde(default = "four")]
    pub high_freq_factor: f64,
    /// The context length that the model was first trained on, in tokens.
    #[serde(default = "context")]
    pub original_context_len: usize,
}

impl RopeScaling {
    /// Frequencies that are all divided by `factor`.
    pub fn linear(factor: f64) -> Self {
        Self {
            kind: ScalingKind::Linear,
            factor,
            low_freq_factor: one(),
            high_freq_factor: four(),
            original_context_len: context(),
        }
    }

    /// The frequency `theta`, stretched. Under the linear rule all frequencies are divided by `factor`; Llama 3.1's rule: slow
    /// frequencies are divided by `factor`, fast ones kept, those between blended
    /// ([Llama team 2024](https://arxiv.org/abs/2407.21783), as transformers' `rope_type = "llama3"` computes it).
    pub fn scaled(&self, theta: f64) -> f64 {
        if self.kind == ScalingKind::Linear {
            return theta / self.factor;
        }
        let wavelength = std::f64::consts::TAU / theta;
        let original = self.original_context_len as f64;
        if wavelength < original / self.high_freq_factor {
            theta
        } else if wavelength > original / self.low_freq_factor {
            theta / self.factor
        } else {
            let smooth = (original / wavelength - self.low_freq_factor)
                / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - smooth) * theta / self.factor + smooth * theta
        }
    }
}

fn is_llama3(kind: &ScalingKind) -> bool {
    *kind == ScalingKind::Llama3
}

/// Llama 3.1's own numbers.
fn one() -> f64 {
    1.0
}

fn four() -> f64 {
    4.0
}

fn context() -> usize {
    8192
}

/// What a layer of the pattern has otherwise than the rest of the config says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerOverride {
    /// The layer's own window; absent = the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The layer's own base of the rotary frequencies; absent = the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// `none` for a layer that doesn't rotate its queries and keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
    /// `false` for a layer whose frequencies are not stretched by `rope_scaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaled: Option<bool>,
}

/// The shortest pattern that repeats to these layers; none where they have nothing of their own.
pub(super) fn pattern(layers: &[LayerOverride]) -> Vec<LayerOverride> {
    let repeats = |n: &usize| layers.iter().enumerate().all(|(at, layer)| *layer == layers[at % n]);
    match (1..=layers.len()).find(repeats) {
        Some(1) if layers[0] == LayerOverride::default() => Vec::new(),
        Some(n) => layers[..n].to_vec(),
        None => Vec::new(),
    }
}

/// What a layer shares with the other layers of its kind: which keys its queries see, and how they are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerKind {
    /// With a window w, a query sees only keys nearer than w tokens.
    pub window: Option<usize>,
    /// The rotation of queries and keys; `None` = none.
    pub rope: Option<Rope>,
}

/// Which angles rotary positions turn by: `theta_i = base^(-2i / r)` where r channels of a head are turned, scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Their scaling to longer contexts.
    pub scaling: Option<RopeScaling>,
}
