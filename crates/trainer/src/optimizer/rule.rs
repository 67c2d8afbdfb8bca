//! The state of an update rule for a parameter or a part of one, and its names in checkpoints.

use candle_core::{DType, Tensor, Var};
use vulpes_model::Role;

use super::config::{OptimizerConfig, OptimizerKind};

/// The rule that updates one parameter, with its state.
pub(super) enum Rule {
    /// The first and second moment estimates of the gradient.
    Adamw { m: Var, v: Var },
    /// The accumulated velocity.
    Sgd { velocity: Var },
    /// The momentum of an entire matrix.
    Muon { momentum: Var },
}

impl Rule {
    const ADAMW: [&str; 2] = ["m", "v"];
    const SGD: [&str; 1] = ["velocity"];
    const MUON: [&str; 1] = ["momentum"];

    /// The kind of rule for parameters of a role.
    pub(super) fn kind(config: &OptimizerConfig, role: &Role) -> OptimizerKind {
        match config.kind {
            OptimizerKind::Muon if !role.is_block_matrix() => OptimizerKind::Adamw,
            kind => kind,
        }
    }

    /// The rule for a parameter, with zero state.
    pub(super) fn new(kind: OptimizerKind, dtype: DType, param: &Tensor) -> candle_core::Result<Self> {
        let zeros = || Var::zeros(param.shape(), dtype, param.device());
        Ok(match kind {
            OptimizerKind::Adamw => Self::Adamw { m: zeros()?, v: zeros()? },
            OptimizerKind::Sgd => Self::Sgd { velocity: zeros()? },
            OptimizerKind::Muon => Self::Muon { momentum: zeros()? },
        })
    }

    /// The names of the state tensors, as checkpoints hold them.
    pub(super) fn state_names(kind: OptimizerKind) -> &'static [&'static str] {
        match kind {
            OptimizerKind::Adamw => &Self::ADAMW,
            OptimizerKind::Sgd => &Self::SGD,
            OptimizerKind::Muon => &Self::MUON,
        }
    }

    /// The state tensors by name.
    pub(super) fn state(&self) -> Vec<(&'static str, &Var)> {
        match self {
            Self::Adamw { m, v } => Self::ADAMW.into_iter().zip([m, v]).collect(),
            Self::Sgd { velocity } => Self::SGD.into_iter().zip([velocity]).collect(),
            Self::Muon { momentum } => Self::MUON.into_iter().zip([momentum]).collect(),
        }
    }
}
