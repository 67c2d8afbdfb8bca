//! Attention with biased scores in plain candle operations.

use crate::attention::reference::{Sizes, sizes};
use crate::attention::{AttentionOptions, Pattern};
use crate::dropout::reference::weight_factors;
use crate::softmax::reference::softmax;
use candle_core::{DType, Result, Tensor, bail};

/// [`crate::biased_attention()`].
pub fn biased_attention(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    bias_hts: &Tensor,
    options: &AttentionOptions,
) -> Result<Pattern> {
    pattern(q_bthk, k_bsgk, v_bsgk, bias_hts, options, softmax)
}

/// The attention pattern with either softmax.
pub(super) fn pattern(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    bias_hts: &Tensor,
    options: &AttentionOptions,
    softmax: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Pattern> {
    let Sizes { b, t, s, h, g, k } = sizes(q_bthk, k_bsgk, v_bsgk, options)?;
    if bias_hts.dims() != [h, t, s] {
        bail!("biased_attention: bias {:?}; expected [{h}, {t}, {s}]", bias_hts.dims());
    }
    let q = q_bthk.transpose(1, 2)?.contiguous()?;
    let each_head = |x_bsgk: &Tensor| -> Result<Tensor> {
        let x = x_bsgk.transpose(1, 2)?.unsqueeze(2)?;
        x.broadcast_as((b, g, h / g, s, k))?.contiguous()?.reshape((b, h, s, k))
    };
    let scores = q.matmul(&each_head(k_bsgk)?.t()?)?.affine(options.scale, 0.0)?;
    let scores_bhts = scores.broadcast_add(bias_hts)?;
    let allowed = options.mask.to_tensor(b, t, s, q.device())?.broadcast_as((b, h, t, s))?;
    // Far below any score, yet finite: a row without keys must not become infinity minus infinity.
    let lowest = if q.dtype() == DType::F16 { -6e4 } else { -1e30 };
    let forbidden = Tensor::full(lowest as f32, (1, 1, 1, 1), q.device())?.to_dtype(q.dtype())?;
    let masked = allowed.where_cond(&scores_bhts, &forbidden.broadcast_as((b, h, t, s))?)?;
    // A row without keys would weigh all of them alike, so it is zeroed.
    let weights_bhts = (softmax(&masked)? * allowed.to_dtype(q.dtype())?)?;
    let used = match options.dropout {
        Some(dropout) if dropout.p > 0.0 => {
            (&weights_bhts * weight_factors((b, h, t, s), options.mask.first_position(), dropout, &q)?)?
        }
        _ => weights_bhts.clone(),
    };
    let context_bthk = used.matmul(&each_head(v_bsgk)?)?.transpose(1, 2)?.contiguous()?;
    Ok(Pattern { scores_bhts, weights_bhts, context_bthk })
}
