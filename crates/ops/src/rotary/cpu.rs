//! Rotary position embedding on the CPU; its backward pass is the inverse rotation.

use super::reference::shapes;
use crate::kernel::Float;
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::read::{tensor, with, with2};
use crate::kernel::simd::multiversion;
use crate::tape;
use candle_core::{Result, Tensor, bail};

/// The minimum number of elements per thread.
const GRAIN: usize = 16 * 1024;

/// The tables' rows for each position of a batch, ready for rotation.
#[derive(Clone, Debug)]
pub(crate) struct Rotation<T> {
    cos: Vec<T>,
    sin: Vec<T>,
    /// The number of rotated pairs per head.
    half: usize,
}

impl<T: Float> Rotation<T> {
    /// The rows for `b` sequences of `t` positions, given by `positions`, or 0, 1, … for each sequence.
    pub(crate) fn new(
        cos: &Tensor,
        sin: &Tensor,
        positions: Option<&Tensor>,
        b: usize,
        t: usize,
    ) -> Result<Self> {
        let (rows, half) = cos.dims2()?;
        let picked: Vec<u32> = match positions {
            Some(positions) => positions.flatten_all()?.to_vec1()?,
            None => (0..b).flat_map(|_| 0..t as u32).collect(),
        };
        if let Some(beyond) = picked.iter().find(|&&position| position as usize >= rows) {
            bail!("rotary: position {beyond}, but the tables have {rows}");
        }
        let pick = |table: &[T]| -> Vec<T> {
            let row = |&position: &u32| table[position as usize * half..][..half].iter().copied();
            picked.iter().flat_map(row).collect()
        };
        with2(cos, sin, |cos: &[T], sin: &[T]| Ok(Self { cos: pick(cos), sin: pick(sin), half }))
    }

    /// Rotates `heads` heads of width `k` at each position in place: rows are `stride` elements apart in `x`.
    pub(crate) fn apply(&self, x: &mut [T], stride: usize, heads: usize, k: usize, back: bool) {
        let half = self.half;
        if half > 0 && heads > 0 {
            for_rows(self.cos.len() / half, GRAIN.div_ceil(stride), Rows::new(x, stride), |range, x| {
                let [cos, sin] =
                    [&self.cos, &self.sin].map(|table| &table[range.start * half..range.end * half]);
                rotate(cos, sin, x.values, stride, heads, (k, half), back);
            });
        }
    }
}

multiversion! {
    /// Rotates the first `2 · half` of the `k` channels of each head.
    fn rotate = rotate_body(
        cos: &[T], sin: &[T], x: &mut [T], stride: usize, heads: usize, widths: (usize, usize), back: bool,
    );
}

#[inline(always)]
fn rotate_body<T: Float, const FMA: bool>(
    cos: &[T],
    sin: &[T],
    x: &mut [T],
    stride: usize,
    heads: usize,
    (k, half): (usize, usize),
    back: bool,
) {
    let sign = T::of(if back { -1.0 } else { 1.0 });
    for ((x, cos), sin) in x.chunks_exact_mut(stride).zip(cos.chunks_exact(half)).zip(sin.chunks_exact(half))
    {
        for head in x[..heads * k].chunks_exact_mut(k) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let sin = sign * sin;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

/// The rotation as a node of the tape.
pub(super) fn node<T: Float>(
    x: &Tensor,
    cos: &Tensor,
    sin: &Tensor,
    positions: Option<&Tensor>,
) -> Result<Tensor> {
    let (b, t, h, k) = shapes(x, cos, sin, positions)?;
    let rotation = Rotation::<T>::new(cos, sin, positions, b, t)?;
    let rotated = move |rotation: &Rotation<T>, x: &Tensor, back: bool| {
        let mut y = with(x, |x: &[T]| Ok(x.to_vec()))?;
        rotation.apply(&mut y, h * k, h, k, back);
        Ok::<_, candle_core::Error>(y)
    };
    let y = rotated(&rotation, x, false)?;
    tape::record(&[x], y, x.shape(), move |dy| {
        Ok(vec![Some(tensor(rotated(&rotation, dy, true)?, dy.shape())?)])
    })
}
