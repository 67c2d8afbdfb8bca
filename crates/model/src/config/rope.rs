//! Rotary settings, and the settings that single layers override.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kinds::Positions;

/// How rotary frequencies are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScalingKind {
    /// Llama 3.1's rule: low frequencies are divided by the factor, high ones kept.
    #[default]
    Llama3,
    /// All frequencies are divided by the factor; the other three settings are unused
    /// ([Chen et al. 2023](https://arxiv.org/abs/2306.15595)).
    Linear,
}

/// Scaling of the rotary frequencies to longer contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// The rule.
    #[serde(default, skip_serializing_if = "is_llama3")]
    pub kind: ScalingKind,
    /// The divisor of the low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context_len / low_freq_factor` are scaled in full.
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

    /// The frequency `theta` after scaling. Under the linear rule all frequencies are divided by `factor`; under Llama
    /// 3.1's rule low frequencies are divided by `factor`, high ones kept, and those between interpolated
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

/// Llama 3.1's default.
fn one() -> f64 {
    1.0
}

fn four() -> f64 {
    4.0
}

fn context() -> usize {
    8192
}

/// The settings that an entry of the layer pattern overrides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerOverride {
    /// The layer's window; absent = the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The layer's base of the rotary frequencies; absent = the config's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// `none` for a layer that doesn't rotate its queries and keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
    /// `false` for a layer whose frequencies are not scaled by `rope_scaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaled: Option<bool>,
}

/// The shortest repeating pattern of these layers; empty if no layer overrides anything.
pub(super) fn pattern(layers: &[LayerOverride]) -> Vec<LayerOverride> {
    let repeats = |n: &usize| layers.iter().enumerate().all(|(at, layer)| *layer == layers[at % n]);
    match (1..=layers.len()).find(repeats) {
        Some(1) if layers[0] == LayerOverride::default() => Vec::new(),
        Some(n) => layers[..n].to_vec(),
        None => Vec::new(),
    }
}

/// The settings that layers of one kind share: which keys a query sees, and how queries and keys are rotated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerKind {
    /// With a window w, a query sees only keys nearer than w tokens.
    pub window: Option<usize>,
    /// The rotation of queries and keys, if any.
    pub rope: Option<Rope>,
}

/// The rotary frequencies: `theta_i = base^(-2i / r)` where r channels of a head are rotated, scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Their scaling to longer contexts.
    pub scaling: Option<RopeScaling>,
}
