//! `[optimizer]`: the update rule and its hyperparameters.

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::groups::ParameterGroup;
use super::muon::MuonConfig;

/// The rule by which gradients become updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam with decoupled decay ([Loshchilov and Hutter 2019](https://arxiv.org/abs/1711.05101)).
    Adamw,
    /// Gradient descent with momentum ([Polyak 1964](https://doi.org/10.1016/0041-5553%2864%2990137-5)).
    Sgd,
    /// Muon for the matrices of blocks ([Jordan 2024](https://kellerjordan.github.io/posts/muon/)), AdamW for the rest.
    Muon,
}

/// The dtype of an optimizer's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateDtype {
    /// That of the parameters.
    #[default]
    Full,
    /// bfloat16, rounded stochastically with a key per parameter and step: half the memory, reproducible bit for bit.
    #[serde(alias = "bf16")]
    Bfloat16,
}

impl StateDtype {
    /// The dtype of the state of parameters in `dtype`.
    pub fn of(self, dtype: DType) -> DType {
        match self {
            Self::Full => dtype,
            Self::Bfloat16 => DType::BF16,
        }
    }
}

/// The dtype in which gradients are kept for the optimizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GradientDtype {
    /// That of the parameters.
    #[default]
    Full,
    /// bfloat16: computed in float32 and rounded to nearest once per shard, half the memory; they are released after the
    /// update, and the program returns all freed memory to the system.
    #[serde(alias = "bf16")]
    Bfloat16,
}

/// `[optimizer]`: how a gradient becomes an update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The rule.
    pub kind: OptimizerKind,
    /// The peak learning rate.
    pub lr: f64,
    /// AdamW: decay rates of the moment estimates (β₁, β₂).
    pub betas: [f64; 2],
    /// AdamW: ε, added to the root of the second moment estimate.
    pub eps: f64,
    /// SGD: momentum coefficient.
    pub momentum: f64,
    /// AdamW: decoupled weight decay, applied to the parameter itself ([`vulpes_ops::AdamwStep`]). SGD: coupled weight
    /// decay (L2), added to the gradient before the momentum ([`vulpes_ops::SgdStep`]). For tensors of two or more
    /// dimensions only.
    pub weight_decay: f64,
    /// The maximum global norm of the gradient; 0 = no clipping.
    pub clip: f64,
    /// AdamW: the dtype of both moment estimates, on the CPU.
    pub state_dtype: StateDtype,
    /// Muon: its settings for the matrices of blocks.
    pub muon: MuonConfig,
    /// Parameter groups with other learning rates or weight decays, a table each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
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
            muon: MuonConfig::default(),
            groups: Vec::new(),
        }
    }
}

impl OptimizerConfig {
    /// AdamW with learning rate `lr`.
    pub fn adamw(lr: f64) -> Self {
        Self { kind: OptimizerKind::Adamw, lr, ..Self::default() }
    }

    /// Gradient descent with momentum, with learning rate `lr`.
    pub fn sgd(lr: f64) -> Self {
        Self { kind: OptimizerKind::Sgd, lr, ..Self::default() }
    }

    /// Muon for the matrices of blocks, AdamW with learning rate `lr` for the rest.
    pub fn muon(lr: f64) -> Self {
        Self { kind: OptimizerKind::Muon, lr, ..Self::default() }
    }
}
