//! How a sublayer is joined to the residual stream.

use candle_core::{Result, Tensor};
use vulpes_ops::Norm;

use super::describe::Describe;
use crate::config::BlockKind;
use crate::spec::{Location, ParameterSpec};

/// What stands around a sublayer `f`: `after([x +] dropout(f(before(x))))`, each where it is given.
#[derive(Clone, Debug)]
pub struct Residual<P> {
    /// The norm that the sublayer reads through ([Xiong et al. 2020](https://arxiv.org/abs/2002.04745)).
    pub before: Option<Norm<P>>,
    /// The norm of the sum ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), sec. 3.1).
    pub after: Option<Norm<P>>,
    /// Whether x is added to the sublayer's result.
    pub add: bool,
    /// The share of the sublayer's result that is set to zero in training.
    pub dropout: f64,
}

impl Residual<ParameterSpec> {
    /// The norm is `name`'s.
    pub(super) fn of(describe: &Describe, name: &str, location: Location) -> Self {
        let config = describe.config;
        let norm = || describe.norm(&format!("{name}.norm"), config.d_model, location);
        let (before, after, add) = match config.block {
            BlockKind::Bare => (None, None, false),
            BlockKind::Pre => (norm(), None, true),
            BlockKind::Post => (None, norm(), true),
        };
        Self { before, after, add, dropout: if add { config.dropout } else { 0.0 } }
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
        let Self { before, after, add, dropout } = self;
        Ok(Residual {
            before: before.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            after: after.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            add: *add,
            dropout: *dropout,
        })
    }
}

impl Residual<Tensor> {
    /// The norm of the sum, where there is one.
    pub(super) fn after(&self, x: Tensor) -> Result<Tensor> {
        self.after.as_ref().map_or(Ok(x.clone()), |norm| norm.as_ref().apply(&x))
    }
}
