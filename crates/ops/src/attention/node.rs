//! Attention as a node of the tape.
#![allow(unsafe_code)]

use super::AttentionOptions;
use super::cpu::{backward, forward};
use super::problem::{Gradients, Problem, Saved};
use super::reference::{Sizes, sizes};
use crate::kernel::Float;
use crate::kernel::narrow::Matrix;
use crate::kernel::parallel::Shared;
use crate::kernel::read::{buffer, tensor, with, with3};
use crate::kernel::scratch::scratch;
use crate::stored::Stored;
use crate::tape;
use crate::threads::precision_of;
use candle_core::{Result, Tensor};

pub(super) fn node<T: Float>(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let sizes = sizes(q, k, v, options)?;
    let Sizes { b, t, h, g, k: width, .. } = sizes;
    let problem = Problem {
        sizes,
        q_stride: h * width,
        kv_stride: g * width,
        out_stride: h * width,
        scale: options.scale,
        mask: options.mask.clone(),
        dropout: options.dropout.cloned(),
        precision: precision_of(T::DTYPE),
    };
    let (mut out, mut log_sums) = (buffer::<T>(q.elem_count()), buffer::<T>(b * h * t));
    with3(q, k, v, |q: &[T], k: &[T], v: &[T]| {
        forward(&problem, [q, k, v].map(Matrix::Numbers), &mut out, &mut log_sums);
        Ok(())
    })?;
    let tracked = [q, k, v].iter().any(|x| x.track_op());
    let n_kept = if tracked { out.len() } else { 0 };
    let mut kept = scratch::<T>(n_kept);
    kept.copy_from_slice(&out[..n_kept]);
    let kept = Stored::new(kept);
    let (kq, kk, kv) = (q.clone(), k.clone(), v.clone());
    tape::record(&[q, k, v], out, q.shape(), move |dout| {
        let (mut dq, mut dk, mut dv) =
            (buffer::<T>(kq.elem_count()), buffer::<T>(kk.elem_count()), buffer::<T>(kv.elem_count()));
        with3(&kq, &kk, &kv, |q: &[T], k: &[T], v: &[T]| {
            with(dout, |dout: &[T]| {
                let [q, k, v] = [q, k, v].map(Matrix::Numbers);
                let saved = Saved { q, k, v, out: &kept.values(), log_sums: &log_sums };
                let gradients = Gradients {
                    dq: Shared::new(&mut dq),
                    dk: Shared::new(&mut dk),
                    dv: Shared::new(&mut dv),
                };
                // SAFETY: the three slices are distinct.
                unsafe { backward(&problem, saved, dout, &gradients) };
                Ok(())
            })
        })?;
        let (dq, dk) = (tensor(dq, kq.shape())?, tensor(dk, kk.shape())?);
        Ok(vec![Some(dq), Some(dk), Some(tensor(dv, kv.shape())?)])
    })
}
