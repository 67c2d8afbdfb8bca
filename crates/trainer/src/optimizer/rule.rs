//! What a rule keeps of a parameter, or of a part of one, and by which names checkpoints hold it.

use candle_core::{DType, Tensor, Var};
use vulpes_model::Role;

use super::config::{OptimizerConfig, OptimizerKind};

/// The rule that updates one parameter, with the state that it keeps of it.
pub(super) enum Rule {
    /// The first and second moment of the gradient.
    Adamw { m: Var, v: Var },
    /// What is left of earlier updates.
    Sgd { velocity: Var },
}

impl Rule {
    const ADAMW: [&str; 2] = ["m", "v"];
    const SGD: [&str; 1] = ["velocity"];

    /// The kind of rule that a config has for parameters of a role: so far the same for all.
    pub(super) fn kind(config: &OptimizerConfig, _: &Role) -> OptimizerKind {
        config.kind
    }

    /// The rule for a parameter, its state all zeros.
    pub(super) fn new(kind: OptimizerKind, dtype: DType, param: &Tensor) -> candle_core::Result<Self> {
        let zeros = || Var::zeros(param.shape(), dtype, param.device());
        Ok(match kind {
            OptimizerKind::Adamw => Self::Adamw { m: zeros()?, v: zeros()? },
            OptimizerKind::Sgd => Self::Sgd { velocity: zeros()? },
        })
    }

    /// The names of the state tensors, as checkpoints hold them.
    pub(super) fn state_names(kind: OptimizerKind) -> &'static [&'static str] {
        match kind {
            OptimizerKind::Adamw => &Self::ADAMW,
            OptimizerKind::Sgd => &Self::SGD,
        }
    }

    /// The state tensors by name.
    pub(super) fn state(&self) -> Vec<(&'static str, &Var)> {
        match self {
            Self::Adamw { m, v } => Self::ADAMW.into_iter().zip([m, v]).collect(),
            Self::Sgd { velocity } => Self::SGD.into_iter().zip([velocity]).collect(),
        }
    }
}
