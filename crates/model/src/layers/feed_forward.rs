//! The feed-forward sublayer: each token separately, through a wider layer and back.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Activation, Linear};

use super::describe::{Describe, Projection};
use super::norm::{Norm, made};
use super::residual::Residual;
use crate::pass::{Pass, record_with};
use crate::probe::Site;
use crate::spec::{Location, ParameterSpec, Part};

/// `down(act(up(x)))`, or gated `down(act(gate(x)) · up(x))`.
#[derive(Clone, Debug)]
pub struct FeedForward<P> {
    /// The block's index, from 0.
    pub layer: usize,
    /// Norms, addition and dropout around it.
    pub residual: Residual<P>,
    /// The activation of `up`, or of `gate` if there is one.
    pub activation: Activation,
    /// The gate's projection, `[f, d]`, of a gated feed-forward.
    pub gate: Option<Linear<P>>,
    /// The projection to the wider layer, `[f, d]`.
    pub up: Linear<P>,
    /// The projection back, `[d, f]`.
    pub down: Linear<P>,
}

impl FeedForward<ParameterSpec> {
    pub(super) fn of(describe: &Describe, layer: usize) -> Option<Self> {
        let c = describe.config;
        let activation = c.feed_forward.activation()?;
        let (name, location) = (format!("blocks.{layer}.feed_forward"), Location::FeedForward { layer });
        let linear = |last: &str, d_out: usize, d_in: usize, scale: f64| {
            let (name, bias, part) = (&format!("{name}.{last}"), c.feed_forward_bias, Part::FeedForward);
            describe.linear(Projection { name, d_out, d_in, bias, scale, location, part })
        };
        Some(Self {
            layer,
            residual: Residual::of(describe, &name, location),
            activation,
            gate: c.feed_forward.is_gated().then(|| linear("gate", c.d_ff, c.d_model, 1.0)),
            up: linear("up", c.d_ff, c.d_model, 1.0),
            down: linear("down", c.d_model, c.d_ff, c.residual_scale()),
        })
    }
}

impl<P> FeedForward<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<FeedForward<Q>, E> {
        let Self { layer, residual, activation, gate, up, down } = self;
        Ok(FeedForward {
            layer: *layer,
            residual: residual.try_map(f)?,
            activation: *activation,
            gate: gate.as_ref().map(|gate| gate.try_map(f)).transpose()?,
            up: up.try_map(f)?,
            down: down.try_map(f)?,
        })
    }
}

impl FeedForward<Tensor> {
    /// Reads `x` and adds to `stream`, which are the same in blocks with sequential sublayers. `shared` is the norm to
    /// read through if that belongs to another sublayer.
    ///
    /// # Shape
    /// x `[b, t, d]` to the same.
    pub(crate) fn forward(
        &self,
        (x, stream): (&Tensor, &Tensor),
        shared: Option<&Norm<Tensor>>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let Self { layer, residual, activation, gate, up, down } = self;
        let Residual { before, branch: _, multiplier: _, after: _, add: _, dropout: p } = residual;
        let dropout = pass.dropout_at("feed_forward", *layer, *p);
        let adapter_dropout = pass.dropout_at("feed_forward.adapters", *layer, pass.adapter_dropout);
        let before = made(before.as_ref().or(shared), x)?;
        let fused = residual.adds_plainly() && x.id() == stream.id();
        let parts = ops::FeedForward {
            norm: before.as_ref().map(|norm| norm.as_ref()),
            gate: gate.as_ref().map(Linear::as_ref),
            up: up.as_ref(),
            down: down.as_ref(),
            activation: *activation,
            residual: fused,
            dropout: dropout.as_ref().filter(|_| fused),
            adapter_dropout: adapter_dropout.as_ref(),
        };
        self.show(x, parts.norm, pass)?;
        let y = ops::feed_forward(x, &parts)?;
        let y = if fused {
            y
        } else {
            let y = residual.scaled(y)?;
            pass.record(Site::FeedForwardBranch(*layer), &y);
            residual.added(stream, y, dropout.as_ref())?
        };
        pass.record(Site::FeedForwardSum(*layer), &y);
        residual.after(y)
    }

    /// Computes the intermediate values by the layer's separate operations, for a probe: the fused sublayer keeps none
    /// of them.
    fn show(&self, x: &Tensor, norm: Option<ops::Norm<&Tensor>>, pass: &mut Pass) -> Result<()> {
        let layer = self.layer;
        let sites = [
            Site::FeedForwardInput(layer),
            Site::FeedForwardGate(layer),
            Site::FeedForwardUp(layer),
            Site::FeedForwardInner(layer),
            Site::FeedForwardOutput(layer),
        ];
        if !sites.into_iter().any(|site| pass.wants(site)) {
            return Ok(());
        }
        let normed = match norm {
            Some(norm) => norm.apply(x)?,
            None => x.clone(),
        };
        pass.record(Site::FeedForwardInput(layer), &normed);
        let up = ops::stored(&self.up.as_ref().apply(&normed)?)?;
        pass.record(Site::FeedForwardUp(layer), &up);
        let inner = match &self.gate {
            Some(gate) => {
                let gate = ops::stored(&gate.as_ref().apply(&normed)?)?;
                pass.record(Site::FeedForwardGate(layer), &gate);
                (self.activation.apply(&gate)? * up)?
            }
            None => self.activation.apply(&up)?,
        };
        pass.record(Site::FeedForwardInner(layer), &inner);
        record_with(pass, Site::FeedForwardOutput(layer), || self.down.as_ref().apply(&inner))
    }
}
