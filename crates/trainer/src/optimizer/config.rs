//! `[optimizer]`: which rule, and its numbers.

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rule by which gradients become updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled decay ([Loshchilov and Hutter 2019](https://arxiv.org/abs/1711.05101)).
    Adamw,
    /// Gradient descent with momentum ([Polyak 1964](https://doi.org/10.1016/0041-5553(64)90137-5)).
    Sgd,
}

/// In which numbers an optimizer keeps its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateDtype {
    /// In those of the parameters.
    #[default]
    Full,
    /// In bfloat16, rounded stochastically at each step, by a key of its own for each parameter and step: half the memory,
    /// repeatable to the bit.
    #[serde(alias = "bf16")]
    Bfloat16,
}

impl StateDtype {
    /// The number format of the state of parameters in `dtype`.
    pub fn of(self, dtype: DType) -> DType {
        match self {
            Self::Full => dtype,
            Self::Bfloat16 => DType::BF16,
        }
    }
}

/// `[optimizer]`: how a gradient becomes an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The rule.
    pub kind: OptimizerKind,
    /// The learning rate at the schedule's height.
    pub lr: f64,
    /// AdamW: how much of the old first and second moment is kept a step.
    pub betas: [f64; 2],
    /// AdamW: added to the root of the second moment.
    pub eps: f64,
    /// SGD: how much of the old velocity is kept a step.
    pub momentum: f64,
    /// AdamW: decoupled decay, taken from the parameter itself ([`vulpes_ops::AdamwStep`]). SGD: coupled decay (L2),
    /// added to the gradient before the momentum ([`vulpes_ops::SgdStep`]). Of tensors of two or more dimensions only.
    pub weight_decay: f64,
    /// The gradient's greatest global norm; 0 leaves it as it is.
    pub clip: f64,
    /// AdamW: the number format of both moments, on the CPU.
    pub state_dtype: StateDtype,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adamw,
            lr: 1e-3,
            betas: [0.9, 0.999],
            eps: 1e-8,
            momentum: 0.9,
            weight_decay: 0.01,
            clip: 1.0,
            state_dtype: StateDtype::Full,
        }
    }
}
