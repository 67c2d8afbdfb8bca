//! Rotary position embedding in plain candle operations.

use candle_core::{D, Result, Tensor, bail};

/// Checks the shapes and returns (b, t, h, k).
pub(crate) fn shapes(
    x_bthk: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    positions: Option<&Tensor>,
) -> Result<(usize, usize, usize, usize)> {
    let (b, t, h, k) = x_bthk.dims4()?;
    check_tables((b, t, k), cos, sin, positions)?;
    Ok((b, t, h, k))
}

/// Checks tables and positions against (b, t, k).
pub(crate) fn check_tables(
    (b, t, k): (usize, usize, usize),
    cos: &Tensor,
    sin: &Tensor,
    positions: Option<&Tensor>,
) -> Result<()> {
    let (rows, half) = cos.dims2()?;
    if sin.dims() != cos.dims() || half > k / 2 {
        bail!(
            "rotary: tables cos {:?} and sin {:?}; expected [positions, {}] or narrower",
            cos.dims(),
            sin.dims(),
            k / 2
        );
    }
    match positions {
        Some(positions) if positions.dims() != [b, t] => {
            bail!("rotary: positions {:?}; expected [{b}, {t}]", positions.dims())
        }
        None if t > rows => bail!("rotary: {t} positions, but the tables have {rows}"),
        _ => Ok(()),
    }
}

/// [`crate::rotary()`].
pub fn rotary(x_bthk: &Tensor, cos: &Tensor, sin: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
    let (b, t, _, k) = shapes(x_bthk, cos, sin, positions)?;
    let half = cos.dim(1)?;
    let pick = |table: &Tensor| match positions {
        Some(positions) => {
            table.detach().contiguous()?.index_select(&positions.flatten_all()?, 0)?.reshape((b, t, 1, half))
        }
        None => table.detach().narrow(0, 0, t)?.reshape((1, t, 1, half)),
    };
    let (cos, sin) = (pick(cos)?, pick(sin)?);
    let (x1, x2) = (x_bthk.narrow(D::Minus1, 0, half)?, x_bthk.narrow(D::Minus1, half, half)?);
    let y1 = (x1.broadcast_mul(&cos)? - x2.broadcast_mul(&sin)?)?;
    let y2 = (x2.broadcast_mul(&cos)? + x1.broadcast_mul(&sin)?)?;
    let rest = k - 2 * half;
    if rest == 0 {
        return Tensor::cat(&[y1, y2], D::Minus1);
    }
    Tensor::cat(&[y1, y2, x_bthk.narrow(D::Minus1, 2 * half, rest)?], D::Minus1)
}
