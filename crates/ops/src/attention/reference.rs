//! Attention in plain candle operations, with all scores and weights in memory.

use super::{AttentionOptions, Pattern};
use crate::dropout::reference::weight_factors;
use candle_core::{D, DType, Result, Tensor, bail};

/// The sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) b: usize,
    pub(crate) t: usize,
    pub(crate) s: usize,
    pub(crate) h: usize,
    pub(crate) g: usize,
    pub(crate) k: usize,
}

/// Checks shapes, mask and dropout.
pub(crate) fn sizes(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    options: &AttentionOptions,
) -> Result<Sizes> {
    let (b, t, h, k) = q_bthk.dims4()?;
    let (kb, s, g, kk) = k_bsgk.dims4()?;
    if k_bsgk.dims() != v_bsgk.dims() || kb != b || kk != k {
        bail!(
            "attention: q {:?}, k {:?} and v {:?}; expected [b, t, h, k] and twice [b, s, g, k]",
            q_bthk.dims(),
            k_bsgk.dims(),
            v_bsgk.dims()
        );
    }
    if g == 0 || h % g != 0 {
        bail!("attention: {g} key/value heads do not divide {h} query heads");
    }
    options.mask.check(b, t, s)?;
    if let Some(dropout) = options.dropout {
        dropout.check()?;
    }
    Ok(Sizes { b, t, s, h, g, k })
}

/// [`crate::attention()`].
pub fn attention(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    Ok(attention_pattern(q_bthk, k_bsgk, v_bsgk, options)?.context_bthk)
}

/// [`crate::attention_pattern()`].
pub fn attention_pattern(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    options: &AttentionOptions,
) -> Result<Pattern> {
    let Sizes { b, t, s, h, g, k } = sizes(q_bthk, k_bsgk, v_bsgk, options)?;
    if b * t * s * h * k == 0 {
        let zeros = Tensor::zeros((b, h, t, s), q_bthk.dtype(), q_bthk.device())?;
        // Multiplied by zero rather than replaced by it: the result stays on the tape.
        let context_bthk = q_bthk.affine(0.0, 0.0)?;
        return Ok(Pattern { scores_bhts: zeros.clone(), weights_bhts: zeros, context_bthk });
    }
    let q = q_bthk.transpose(1, 2)?.contiguous()?;
    let each_head = |x_bsgk: &Tensor| -> Result<Tensor> {
        let x = x_bsgk.transpose(1, 2)?.unsqueeze(2)?;
        x.broadcast_as((b, g, h / g, s, k))?.contiguous()?.reshape((b, h, s, k))
    };
    let scores_bhts = q.matmul(&each_head(k_bsgk)?.t()?)?.affine(options.scale, 0.0)?;
    let allowed = options.mask.to_tensor(b, t, s, q.device())?.broadcast_as((b, h, t, s))?;
    // Far below any score, yet finite: a row without an allowed key must not become infinity minus infinity.
    let lowest = if q.dtype() == DType::F16 { -6e4 } else { -1e30 };
    let forbidden = Tensor::full(lowest as f32, (1, 1, 1, 1), q.device())?.to_dtype(q.dtype())?;
    let masked = allowed.where_cond(&scores_bhts, &forbidden.broadcast_as((b, h, t, s))?)?;
    let exp = masked.broadcast_sub(&masked.detach().max_keepdim(D::Minus1)?)?.exp()?;
    let exp = (exp * allowed.to_dtype(q.dtype())?)?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    // A sum is at least 1, its largest term, or 0 where no key is allowed: dividing by 1 there leaves zeros.
    let sum = (&sum + sum.detach().lt(0.5)?.to_dtype(q.dtype())?)?;
    let weights_bhts = exp.broadcast_div(&sum)?;
    let used = match options.dropout {
        Some(dropout) if dropout.p > 0.0 => {
            (&weights_bhts * weight_factors((b, h, t, s), options.mask.first_position(), dropout, &q)?)?
        }
        _ => weights_bhts.clone(),
    };
    let context_bthk = used.matmul(&each_head(v_bsgk)?)?.transpose(1, 2)?.contiguous()?;
    Ok(Pattern { scores_bhts, weights_bhts, context_bthk })
}
