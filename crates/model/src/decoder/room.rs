//! The activations between a decoder's layers, and the elementwise steps on them.

use vulpes_ops::decode::{Inputs, Team, layer_norm_no_grad, rms_norm_no_grad};

use super::weights::Weights;
use crate::layers::Norm;

/// One token of a pass.
pub(super) struct Token {
    /// The index of its row's feed.
    pub(super) feed: usize,
    pub(super) position: usize,
    pub(super) id: u32,
}

/// Buffers for the activations between the layers, token after token.
#[derive(Default)]
pub(super) struct Room {
    /// The width of the residual stream.
    pub(super) d: usize,
    pub(super) x: Vec<f32>,
    /// The input of a block with parallel sublayers.
    pub(super) block: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) qkv: Vec<f32>,
    pub(super) context: Vec<f32>,
    pub(super) out: Vec<f32>,
    pub(super) inner: Vec<f32>,
    pub(super) gates: Vec<f32>,
    pub(super) logits: Vec<f32>,
    /// Vectors in the types of the weights.
    pub(super) inputs: Inputs,
}

impl Norm<Weights<'_>> {
    /// The number of elements that are normalized together.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Layer { weight, .. } | Self::Rms { weight, .. } | Self::RmsPlusOne { weight, .. } => {
                weight.get().len()
            }
            Self::RmsBare { width, .. } => *width,
        }
    }

    /// The norm of each part of a vector.
    pub(super) fn of_parts(&self, x: &[f32], out: &mut [f32]) {
        let width = self.width();
        let scale: Vec<f32> = match self {
            Self::RmsPlusOne { weight, .. } => weight.get().iter().map(|weight| weight + 1.0).collect(),
            Self::RmsBare { width, .. } => vec![1.0; *width],
            _ => Vec::new(),
        };
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            match self {
                Self::Layer { weight, bias, eps } => {
                    layer_norm_no_grad(x, weight.get(), bias.as_ref().map(Weights::get), *eps, out);
                }
                Self::Rms { weight, eps } => rms_norm_no_grad(x, weight.get(), *eps, out),
                Self::RmsPlusOne { weight: _, eps } | Self::RmsBare { width: _, eps } => {
                    rms_norm_no_grad(x, &scale, *eps, out)
                }
            }
        }
    }
}

pub(super) fn multiply(x: &mut [f32], factor: f64) {
    x.iter_mut().for_each(|x| *x *= factor as f32);
}

pub(super) fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Normalizes x in place, if there is a norm.
pub(super) fn normalize(
    norm: Option<&Norm<Weights<'_>>>,
    x: &mut Vec<f32>,
    room: &mut Vec<f32>,
    team: &mut Team,
) {
    if let Some(norm) = norm {
        normed(norm, x, room, team);
        std::mem::swap(x, room);
    }
}

/// The norm of each token of `x`.
pub(super) fn normed(norm: &Norm<Weights<'_>>, x: &[f32], out: &mut Vec<f32>, team: &mut Team) {
    out.resize(x.len(), 0.0);
    team.split(out, norm.width(), &|first, part| norm.of_parts(&x[first..first + part.len()], part));
}
