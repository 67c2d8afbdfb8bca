//! Projections of many tokens at once: each weight is read once, each output is bit-identical to a single one.
#![allow(unsafe_code)]

use super::kernel::rows_no_grad;
use super::packed::{Form, Packed};
use super::{activate_no_grad, gate_no_grad};
use crate::activation::Activation;
use crate::kernel::product::packed::{self as pairs, Paired};
use crate::kernel::quantized::{self as blocks, Quant, Rounded};
use crate::kernel::team::{SendPtr, Team};
use std::ops::Range;

/// A matrix `[out, in]` as a product reads it.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// Rows of float32, one after another.
    Floats(&'a [f32]),
    /// In another type.
    Packed(&'a Packed),
}

/// A matrix and the bias of its products.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// `[out, in]`.
    pub weight: Weight<'a>,
    /// `[out]`.
    pub bias: Option<&'a [f32]>,
}

/// Buffers for the input vectors in the types that the matrices need.
#[derive(Default)]
pub struct Inputs {
    pairs: Paired,
    bytes: Rounded,
    halves: Rounded,
}

/// The number of a matrix's outputs that one thread computes at a time; a multiple of every panel.
const UNIT: usize = 32;

impl Side<'_> {
    /// The number of outputs, for vectors of length `n_in`.
    pub fn n_out(&self, n_in: usize) -> usize {
        match self.weight {
            Weight::Floats(numbers) => numbers.len() / n_in.max(1),
            Weight::Packed(packed) => packed.n_out(),
        }
    }
}

impl Inputs {
    /// Rounds the vectors of `x` to the types that the matrices need.
    fn fill(&mut self, sides: &[Side<'_>], x: &[f32], n_in: usize, team: &mut Team) {
        let wants = |wanted: Option<Quant>| {
            sides.iter().any(|side| match side.weight {
                Weight::Floats(_) => false,
                Weight::Packed(packed) => match packed.form() {
                    Form::Pairs(_) => wanted.is_none(),
                    Form::Blocks(quant, _) => wanted == Some(*quant),
                },
            })
        };
        if wants(None) {
            self.pairs.fill(x, n_in, team);
        }
        if wants(Some(Quant::Q8_0)) {
            self.bytes.fill(Quant::Q8_0, x, n_in, team);
        }
        if wants(Some(Quant::Q4_0)) {
            self.halves.fill(Quant::Q4_0, x, n_in, team);
        }
    }
}

/// `out = x Wᵀ + bias` for the matrices of `sides`, their outputs next to each other.
///
/// # Shape
/// x `[tokens, in]`, out `[tokens, out₁ + out₂ + …]`.
///
/// # Gradient
/// None.
pub fn project_no_grad(
    sides: &[Side<'_>],
    x: &[f32],
    n_in: usize,
    out: &mut [f32],
    inputs: &mut Inputs,
    team: &mut Team,
) {
    let stride: usize = sides.iter().map(|side| side.n_out(n_in)).sum();
    assert!(x.len().is_multiple_of(n_in) && out.len() == x.len() / n_in * stride, "project: sizes");
    inputs.fill(sides, x, n_in, team);
    let start = SendPtr(out.as_mut_ptr());
    let n_unit = |side: &Side<'_>| side.n_out(n_in).div_ceil(UNIT);
    let inputs = &*inputs;
    team.share(sides.iter().map(n_unit).sum(), &|units| {
        let (mut first, mut column) = (0, 0);
        for side in sides {
            let (own, n_out) = (n_unit(side), side.n_out(n_in));
            let here = units.start.max(first)..units.end.min(first + own);
            if !here.is_empty() {
                let here = here.start - first..here.end - first;
                // SAFETY: only this thread accesses the columns of this side and these units, in each row of `out`.
                unsafe { times(side, here, x, n_in, inputs, start.get().add(column), stride) };
            }
            first += own;
            column += n_out;
        }
    });
}

/// `out = f(x Gᵀ + bias) · (x Wᵀ + bias)`, or without a gate `out = f(x Wᵀ + bias)`.
///
/// # Shape
/// x `[tokens, in]`, out `[tokens, out]`; `room` is resized to the size of `out`.
///
/// # Gradient
/// None.
#[allow(clippy::too_many_arguments)] // two matrices, a function between them, and where it all happens
pub fn project_gated_no_grad(
    (up, gate): (Side<'_>, Option<Side<'_>>),
    f: Activation,
    x: &[f32],
    n_in: usize,
    out: &mut [f32],
    room: &mut Vec<f32>,
    inputs: &mut Inputs,
    team: &mut Team,
) {
    let n_out = up.n_out(n_in);
    let n = x.len() / n_in.max(1);
    assert!(x.len() == n * n_in && out.len() == n * n_out, "project: sizes");
    assert!(gate.is_none_or(|gate| gate.n_out(n_in) == n_out), "project: a gate for each output");
    let sides: Vec<Side<'_>> = std::iter::once(up).chain(gate).collect();
    inputs.fill(&sides, x, n_in, team);
    room.resize(if gate.is_some() { out.len() } else { 0 }, 0.0);
    let (start, gates) = (SendPtr(out.as_mut_ptr()), SendPtr(room.as_mut_ptr()));
    let inputs = &*inputs;
    team.share(n_out.div_ceil(UNIT), &|units| {
        let columns = units.start * UNIT..(units.end * UNIT).min(n_out);
        // SAFETY: only this thread accesses these columns, in each row of `out` and of `room`.
        unsafe {
            times(&up, units.clone(), x, n_in, inputs, start.get(), n_out);
            if let Some(gate) = &gate {
                times(gate, units.clone(), x, n_in, inputs, gates.get(), n_out);
            }
            for row in 0..n {
                let at = row * n_out + columns.start;
                let part = std::slice::from_raw_parts_mut(start.get().add(at), columns.len());
                match gate {
                    Some(_) => {
                        let gates = std::slice::from_raw_parts(gates.get().add(at), columns.len());
                        gate_no_grad(f, gates, part);
                    }
                    None => activate_no_grad(f, part),
                }
            }
        }
    });
}

/// The outputs of `units` of one matrix, with bias, into rows that start `stride` elements apart.
///
/// # Safety
/// These columns of each row of `out` must be valid and not aliased.
unsafe fn times(
    side: &Side<'_>,
    units: Range<usize>,
    x: &[f32],
    n_in: usize,
    inputs: &Inputs,
    out: *mut f32,
    stride: usize,
) {
    let columns = units.start * UNIT..(units.end * UNIT).min(side.n_out(n_in));
    // SAFETY: guaranteed by the caller.
    unsafe {
        match side.weight {
            Weight::Floats(numbers) => {
                let weight = &numbers[columns.start * n_in..columns.end * n_in];
                rows_no_grad(weight, x, n_in, out.add(columns.start), stride);
            }
            Weight::Packed(packed) => match packed.form() {
                Form::Pairs(matrix) => {
                    let panels = columns.start / pairs::PANEL..columns.end.div_ceil(pairs::PANEL);
                    pairs::multiply(matrix, &inputs.pairs, panels, out, stride);
                }
                Form::Blocks(quant, matrix) => {
                    let x = if *quant == Quant::Q8_0 { &inputs.bytes } else { &inputs.halves };
                    let panels = columns.start / blocks::PANEL..columns.end.div_ceil(blocks::PANEL);
                    blocks::multiply(matrix, x, panels, out, stride);
                }
            },
        }
        if let Some(bias) = side.bias {
            for row in 0..x.len() / n_in {
                let out =
                    std::slice::from_raw_parts_mut(out.add(row * stride + columns.start), columns.len());
                out.iter_mut().zip(&bias[columns.clone()]).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}
