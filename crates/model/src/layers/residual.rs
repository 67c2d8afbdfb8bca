//! How a sublayer is joined to the residual stream.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Dropout};

use super::describe::Describe;
use super::norm::Norm;
use crate::config::BlockKind;
use crate::spec::{Location, ParameterSpec};

/// The norms, factor and dropout around a sublayer `f`: `after([x +] dropout(multiplier · branch(f(before(x)))))`, each
/// optional.
#[derive(Clone, Debug)]
pub struct Residual<P> {
    /// The norm of the sublayer's input ([Xiong et al. 2020](https://arxiv.org/abs/2002.04745)).
    pub before: Option<Norm<P>>,
    /// The norm of the sublayer's output.
    pub branch: Option<Norm<P>>,
    /// The factor on that output.
    pub multiplier: f64,
    /// The norm of the sum ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), sec. 3.1).
    pub after: Option<Norm<P>>,
    /// Whether x is added to the sublayer's output.
    pub add: bool,
    /// The dropout probability on the sublayer's output in training.
    pub dropout: f64,
}

impl Residual<ParameterSpec> {
    /// The norms belong to `name`; the first sublayer of a block may read the stream without a norm.
    pub(super) fn of(describe: &Describe, name: &str, location: Location) -> Self {
        let config = describe.config;
        let norm = || describe.norm(&format!("{name}.norm"), config.d_model, location);
        let branch = || describe.norm(&format!("{name}.branch_norm"), config.d_model, location);
        let is_attention = matches!(location, Location::Attention { .. });
        let skips = config.skip_first_norm && location == Location::Attention { layer: 0 };
        let before = || if skips { None } else { norm() };
        let (before, branch, after, add) = match config.block {
            BlockKind::Bare => (None, None, None, false),
            BlockKind::Pre | BlockKind::Parallel => (before(), None, None, true),
            // The feed-forward reads the output of attention's norm.
            BlockKind::ParallelShared => (if is_attention { norm() } else { None }, None, None, true),
            BlockKind::Post => (None, None, norm(), true),
            BlockKind::Reordered => (None, branch(), None, true),
            BlockKind::Sandwich => (before(), branch(), None, true),
        };
        let dropout = if add { config.dropout } else { 0.0 };
        Self { before, branch, multiplier: config.residual_multiplier, after, add, dropout }
    }
}

impl<P> Residual<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Residual<Q>, E> {
        let Self { before, branch, multiplier, after, add, dropout } = self;
        Ok(Residual {
            before: before.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            branch: branch.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            multiplier: *multiplier,
            after: after.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            add: *add,
            dropout: *dropout,
        })
    }

    /// Whether the sublayer's output is added without a norm or factor, so that one operation can do both.
    pub(super) fn adds_plainly(&self) -> bool {
        self.add && self.branch.is_none() && self.multiplier == 1.0
    }
}

impl Residual<Tensor> {
    /// The sublayer's output as it is added: its norm, times the multiplier.
    pub(crate) fn scaled(&self, y: Tensor) -> Result<Tensor> {
        let y = match &self.branch {
            Some(norm) => norm.apply(&y)?,
            None => y,
        };
        if self.multiplier == 1.0 { Ok(y) } else { y.affine(self.multiplier, 0.0) }
    }

    /// The sum with the stream, for an output that an operation has not added itself.
    pub(super) fn added(&self, x: &Tensor, y: Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
        let y = match dropout {
            Some(dropout) => ops::dropout(&y, dropout)?,
            None => y,
        };
        if self.add { x + y } else { Ok(y) }
    }

    /// The norm of the sum, if there is one.
    pub(super) fn after(&self, x: Tensor) -> Result<Tensor> {
        self.after.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))
    }
}
