//! Muon: momentum whose matrix is orthogonalized before the update.

mod cpu;
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor, Var, bail};
use cpu::{muon as step_on_cpu, orthogonal};

/// A sequence of odd polynomials `aX + (bA + cA²)X`, `A = XXᵀ`, that bring the singular values of a matrix towards 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orthogonalizer {
    /// One polynomial five times ([Jordan 2024](https://kellerjordan.github.io/posts/muon/)): singular values end between
    /// 0.68 and 1.14.
    #[default]
    Quintic,
    /// Five polynomials, each optimal for the result of the previous one
    /// ([Amsel et al. 2025](https://arxiv.org/abs/2505.16932)).
    PolarExpress,
}

impl Orthogonalizer {
    /// a, b and c of each step.
    fn coefficients(self) -> [[f64; 3]; 5] {
        match self {
            Self::Quintic => [[3.4445, -4.775, 2.0315]; 5],
            Self::PolarExpress => [
                [8.156_554_524_902_461, -22.483_292_925_577_95, 15.878_769_915_207_462],
                [4.042_929_935_166_739, -2.808_917_465_908_714, 0.500_017_845_105_131_6],
                [3.891_667_802_292_660_7, -2.772_484_153_217_685, 0.506_064_817_850_339_3],
                [3.285_753_657_755_655, -2.368_129_493_342_537_6, 0.464_490_242_330_031_06],
                [2.346_541_325_859_637_7, -1.709_782_838_268_708_1, 0.423_235_511_693_053_23],
            ],
        }
    }

    /// The divisor of a matrix of Frobenius norm `norm` that leaves no singular value above 1.
    fn divisor(self, norm: f64) -> f64 {
        match self {
            Self::Quintic => norm.max(1e-7),
            Self::PolarExpress => 1.01 * norm + 1e-6,
        }
    }
}

/// How the learning rate depends on the shape of a matrix, by the names of PyTorch's `Muon`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MuonScaling {
    /// `√max(1, rows/columns)`: a tall matrix gets a larger step.
    #[default]
    Original,
    /// `0.2 √max(rows, columns)`: updates of the size of AdamW's, so that AdamW's learning rate and weight decay can be
    /// kept ([Liu et al. 2025](https://arxiv.org/abs/2502.16982), sec. 2.2).
    MatchRmsAdamw,
}

impl MuonScaling {
    fn factor(self, rows: usize, columns: usize) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self {
            Self::Original => (rows / columns).max(1.0).sqrt(),
            Self::MatchRmsAdamw => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

/// The hyperparameters of one Muon step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonStep {
    /// The learning rate of this step, before the scaling.
    pub lr: f64,
    /// The momentum coefficient μ.
    pub momentum: f64,
    /// Whether to use Nesterov momentum: the gradient is mixed with the momentum again.
    pub nesterov: bool,
    /// The weight decay coefficient, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Whether weight decay applies only to elements that the update shrinks anyway
    /// ([Chen et al. 2025](https://arxiv.org/abs/2510.12402)).
    pub cautious: bool,
    /// How the learning rate depends on the shape.
    pub scaling: MuonScaling,
    /// How the momentum is orthogonalized.
    pub orthogonalizer: Orthogonalizer,
    /// The factor on the gradient: 1, or less if its norm is clipped.
    pub grad_scale: f64,
}

/// The approximate matrix `UVᵀ` of `x = UΣVᵀ`: five Newton–Schulz steps, each a polynomial of x.
///
/// With `X = x / ‖x‖_F`, transposed if it has more rows than columns, five times `A = XXᵀ`, `X ← aX + (bA + cA²)X`.
/// Computed in x's dtype with every sum in a fixed order: the same bits on any number of threads.
///
/// # Shape
/// `[rows, columns]` → the same.
///
/// # Gradient
/// None.
///
/// # Errors
/// Returns an error if x is not a matrix.
pub fn orthogonalized(x: &Tensor, how: Orthogonalizer) -> Result<Tensor> {
    x.dims2()?;
    if fits(&[x]) { by_dtype!(x, orthogonal(x, how)) } else { reference::orthogonalized(x, how) }
}

/// One step of Muon ([Jordan 2024](https://kellerjordan.github.io/posts/muon/)), in PyTorch's form:
/// `m ← m + (1 − μ)(g − m)`, `u = orthogonalized(g + μ(m − g))` or, without Nesterov, `orthogonalized(m)`,
/// `p ← p (1 − lr·wd) − lr·s·u` with the scaling s of the matrix's shape.
///
/// # Shape
/// All `[rows, columns]`.
///
/// # Gradient
/// None: parameter and momentum are overwritten, so never call it between a forward pass and its backward pass.
///
/// # Errors
/// Returns an error if they are not matrices, or differ in shape or dtype.
pub fn muon(param: &Tensor, momentum: &Var, grad: &Tensor, step: &MuonStep) -> Result<()> {
    param.dims2()?;
    for (name, other) in [("momentum", momentum.as_tensor()), ("grad", grad)] {
        if other.dims() != param.dims() || other.dtype() != param.dtype() {
            bail!(
                "muon: {name} is {:?} {:?}, but the parameter is {:?} {:?}",
                other.dtype(),
                other.dims(),
                param.dtype(),
                param.dims()
            );
        }
    }
    if param.elem_count() == 0 {
        return Ok(());
    }
    if fits(&[param, momentum, grad]) && param.is_contiguous() && momentum.is_contiguous() {
        by_dtype!(param, step_on_cpu(param, momentum, grad, step))
    } else {
        reference::muon(param, momentum, grad, step)
    }
}
