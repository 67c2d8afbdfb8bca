//! The feed-forward sublayer as one operation: norm, projections, activation, dropout and residual.

mod cpu;
pub(crate) mod reference;

use crate::activation::Activation;
use crate::dropout::Dropout;
use crate::kernel::{by_dtype, fits};
use crate::linear::reference::shapes;
use crate::parts::{Linear, Norm};
use crate::sublayer::check_norm;
use candle_core::{Result, Tensor, bail};
use cpu::node;

/// The parts of [`feed_forward`].
#[derive(Clone, Copy, Debug)]
pub struct FeedForward<'a> {
    /// The norm of the input; `None` if the norm is elsewhere.
    pub norm: Option<Norm<&'a Tensor>>,
    /// The gate's projection, of a gated feed-forward.
    pub gate: Option<Linear<&'a Tensor>>,
    /// The projection to the wider layer.
    pub up: Linear<&'a Tensor>,
    /// The projection back.
    pub down: Linear<&'a Tensor>,
    /// The activation of `up`, or of `gate` if there is one.
    pub activation: Activation,
    /// Whether x is added to the result.
    pub residual: bool,
    /// The dropout of what is added to x.
    pub dropout: Option<&'a Dropout>,
    /// The dropout of the inputs of the projections' adapters.
    pub adapter_dropout: Option<&'a Dropout>,
}

/// `[x +] dropout(down(f(up(norm(x)))))`, or gated `down(f(gate(norm(x))) · up(norm(x)))`.
///
/// One node on the tape; it keeps the wider layer once, before its activation, which the backward pass recomputes.
///
/// # Shape
/// x [.., d] → [.., d].
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn feed_forward(x_xd: &Tensor, parts: &FeedForward) -> Result<Tensor> {
    check(x_xd, parts)?;
    let inputs = inputs(x_xd, parts);
    if fits(&inputs) {
        by_dtype!(x_xd, node(x_xd, parts, &inputs))
    } else {
        reference::feed_forward(x_xd, parts)
    }
}

/// x and the parameters, in the order of their gradients.
fn inputs<'a>(x: &'a Tensor, parts: &FeedForward<'a>) -> Vec<&'a Tensor> {
    let mut inputs = vec![x];
    inputs.extend(parts.norm.iter().flat_map(Norm::inputs));
    inputs.extend(parts.gate.iter().flat_map(Linear::inputs));
    inputs.extend(parts.up.inputs());
    inputs.extend(parts.down.inputs());
    inputs
}

fn check(x: &Tensor, parts: &FeedForward) -> Result<()> {
    if let Some(norm) = parts.norm {
        check_norm(&norm, x)?;
    }
    let (_, d, f) = shapes(x, parts.up.weight, parts.up.bias)?;
    if let Some(gate) = parts.gate {
        shapes(x, gate.weight, gate.bias)?;
        if gate.weight.dims() != parts.up.weight.dims() {
            bail!("feed_forward: gate {:?} with up {:?}", gate.weight.dims(), parts.up.weight.dims());
        }
    }
    let (o, i) = parts.down.weight.dims2()?;
    if i != f || (parts.residual && o != d) || parts.down.bias.is_some_and(|bias| bias.dims() != [o]) {
        bail!("feed_forward: down {:?} with up {:?}", parts.down.weight.dims(), parts.up.weight.dims());
    }
    [parts.dropout, parts.adapter_dropout].into_iter().flatten().try_for_each(Dropout::check)
}
