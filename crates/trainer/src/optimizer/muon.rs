//! `[optimizer.muon]`: the settings of Muon for the matrices of blocks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_ops::{MuonScaling, MuonStep, Orthogonalizer};

/// The scaling of Muon's learning rate by the shape of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// `√max(1, rows/columns)` ([Jordan 2024](https://kellerjordan.github.io/posts/muon/)).
    Original,
    /// `0.2 √max(rows, columns)`: updates of the same size as AdamW's, so that its learning rate and weight decay can
    /// be kept ([Liu et al. 2025](https://arxiv.org/abs/2502.16982), sec. 2.2).
    MatchRmsAdamw,
}

/// The polynomials by which Muon orthogonalizes the momentum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Orthogonal {
    /// One quintic, applied five times ([Jordan 2024](https://kellerjordan.github.io/posts/muon/)).
    Quintic,
    /// Five, each optimal for the result of the previous one ([Amsel et al. 2025](https://arxiv.org/abs/2505.16932)).
    PolarExpress,
}

/// `[optimizer.muon]`: Muon for the matrices of blocks; AdamW updates everything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MuonConfig {
    /// The peak learning rate, before `scaling`; it follows the schedule as `optimizer.lr` does.
    pub lr: f64,
    /// Momentum coefficient.
    pub momentum: f64,
    /// The momentum at the first step, which grows linearly to `momentum` over `momentum_steps`; absent = `momentum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum_from: Option<f64>,
    /// Steps of the ramp from `momentum_from`.
    #[serde(skip_serializing_if = "is_none_yet")]
    pub momentum_steps: u64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// Decoupled weight decay, applied to the parameter itself.
    pub weight_decay: f64,
    /// Whether weight decay only acts on elements that the update shrinks anyway ([Chen et al.
    /// 2025](https://arxiv.org/abs/2510.12402)).
    pub cautious: bool,
    /// The scaling of the learning rate by the shape of a matrix.
    pub scaling: Scaling,
    /// The polynomials that orthogonalize the momentum.
    pub orthogonal: Orthogonal,
}

fn is_none_yet(steps: &u64) -> bool {
    *steps == 0
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self {
            lr: 0.02,
            momentum: 0.95,
            momentum_from: None,
            momentum_steps: 0,
            nesterov: true,
            weight_decay: 0.01,
            cautious: false,
            scaling: Scaling::Original,
            orthogonal: Orthogonal::Quintic,
        }
    }
}

impl MuonConfig {
    /// The momentum of update `n`, counted from 1.
    fn momentum_at(&self, n: u64) -> f64 {
        match self.momentum_from {
            Some(from) if n <= self.momentum_steps => {
                from + (self.momentum - from) * (n - 1) as f64 / self.momentum_steps as f64
            }
            _ => self.momentum,
        }
    }

    /// The hyperparameters of update `n`, with the schedule at `height` of its peak.
    pub(super) fn step(&self, n: u64, height: f64, grad_scale: f64) -> MuonStep {
        MuonStep {
            lr: self.lr * height,
            momentum: self.momentum_at(n),
            nesterov: self.nesterov,
            weight_decay: self.weight_decay,
            cautious: self.cautious,
            scaling: match self.scaling {
                Scaling::Original => MuonScaling::Original,
                Scaling::MatchRmsAdamw => MuonScaling::MatchRmsAdamw,
            },
            orthogonalizer: match self.orthogonal {
                Orthogonal::Quintic => Orthogonalizer::Quintic,
                Orthogonal::PolarExpress => Orthogonalizer::PolarExpress,
            },
            grad_scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_grows_linearly() {
        let config = MuonConfig { momentum_from: Some(0.75), momentum_steps: 4, ..MuonConfig::default() };
        let found: Vec<f64> = (1..=6).map(|n| config.step(n, 1.0, 1.0).momentum).collect();
        let wanted = [0.75, 0.8, 0.85, 0.9, 0.95, 0.95];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        assert_eq!(MuonConfig::default().step(1, 1.0, 1.0).momentum, 0.95);
    }
}
