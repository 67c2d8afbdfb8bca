//! The activations on the CPU: value and derivative together from one exponential.

use super::Activation;
use super::reference::{GELU_CUBIC, SQRT_2_OVER_PI};
use crate::kernel::Float;
use crate::kernel::narrow::Matrix;
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::read::{buffer, tensor, with, with2, with3};
use crate::kernel::simd::multiversion;
use crate::tape;
use candle_core::{Result, Tensor};
use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::ops::Range;

/// The minimum number of elements per thread.
const GRAIN: usize = 8 * 1024;

/// Values in bfloat16 are widened this many at a time, into the first-level cache.
const WIDENED: usize = 1024;

/// Cuts `range` into parts to be widened: each as it is, and as a range in `range`.
fn parts(range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    range.clone().step_by(WIDENED).map(move |start| {
        let end = range.end.min(start + WIDENED);
        (start..end, start - range.start..end - range.start)
    })
}

/// `y = f(x)` for each element.
pub(crate) fn values<T: Float>(f: Activation, x: Matrix<'_, T>, y: &mut [T]) {
    for_rows(x.len(), GRAIN, Rows::single(y), |range, y| {
        let mut room = [T::default(); WIDENED];
        for (part, own) in parts(range) {
            value_part(f, x.part(part, &mut room), &mut y.values[own]);
        }
    });
}

/// `x ← x + bias` for each row, and `y = f(x)`.
pub(crate) fn values_of_biased<T: Float>(f: Activation, x: &mut [T], bias: &[T], y: &mut [T]) {
    let width = bias.len().max(1);
    let rows = x.len() / width;
    let buffers = (Rows::new(x, width), Rows::new(y, width));
    for_rows(rows, GRAIN.div_ceil(width), buffers, |_, (x, y)| biased_part(f, x.values, bias, y.values));
}

/// `dx ← dx · f'(x)`, where `dx` is initially the gradient of `f(x)`; and `y = f(x)` if requested.
pub(crate) fn derivatives<T: Float>(f: Activation, x: Matrix<'_, T>, y: Option<&mut [T]>, dx: &mut [T]) {
    let buffers = (y.map(Rows::single), Rows::single(dx));
    for_rows(x.len(), GRAIN, buffers, |range, (mut y, dx)| {
        let mut room = [T::default(); WIDENED];
        for (part, own) in parts(range) {
            let y = y.as_mut().map(|y| &mut y.values[own.clone()]);
            derivative_part(f, x.part(part, &mut room), y, &mut dx.values[own]);
        }
    });
}

/// `y = f(gate) · up` for each element.
pub(crate) fn gated_values<T: Float>(f: Activation, gate: Matrix<'_, T>, up: Matrix<'_, T>, y: &mut [T]) {
    for_rows(gate.len(), GRAIN, Rows::single(y), |range, y| {
        let [mut of_gate, mut of_up] = [[T::default(); WIDENED]; 2];
        for (part, own) in parts(range) {
            let (gate, up) = (gate.part(part.clone(), &mut of_gate), up.part(part, &mut of_up));
            gated_part(f, gate, up, &mut y.values[own]);
        }
    });
}

/// Turns `dup`, initially the gradient of `f(gate) · up`, into the gradients of both, and computes the value if
/// requested.
pub(crate) fn gated_derivatives<T: Float>(
    f: Activation,
    gate: Matrix<'_, T>,
    up: Matrix<'_, T>,
    y: Option<&mut [T]>,
    dgate: &mut [T],
    dup: &mut [T],
) {
    let buffers = (y.map(Rows::single), Rows::single(dgate), Rows::single(dup));
    for_rows(gate.len(), GRAIN, buffers, |range, (mut y, dgate, dup)| {
        let [mut of_gate, mut of_up] = [[T::default(); WIDENED]; 2];
        for (part, own) in parts(range) {
            let (gate, up) = (gate.part(part.clone(), &mut of_gate), up.part(part, &mut of_up));
            let y = y.as_mut().map(|y| &mut y.values[own.clone()]);
            let (dgate, dup) = (&mut dgate.values[own.clone()], &mut dup.values[own]);
            gated_derivative_part(f, gate, up, y, dgate, dup);
        }
    });
}

multiversion! {
    /// `x ← f(x)` for each element, on this thread.
    fn in_place = in_place_body(f: Activation, x: &mut [T]);
    /// `up ← f(gate) · up` for each element, on this thread.
    fn gate_in_place = gate_in_place_body(f: Activation, gate: &[T], up: &mut [T]);
    fn value_part = value_body(f: Activation, x: &[T], y: &mut [T]);
    fn biased_part = biased_body(f: Activation, x: &mut [T], bias: &[T], y: &mut [T]);
    fn derivative_part = derivative_body(f: Activation, x: &[T], y: Option<&mut [T]>, dx: &mut [T]);
    fn gated_part = gated_body(f: Activation, gate: &[T], up: &[T], y: &mut [T]);
    fn gated_derivative_part = gated_derivative_body(
        f: Activation, gate: &[T], up: &[T], y: Option<&mut [T]>, dgate: &mut [T], dup: &mut [T],
    );
}

/// (f(x), f'(x)) of one element; a result that the caller doesn't use isn't computed.
#[inline(always)]
fn gelu_tanh<T: Float, const FMA: bool>(x: T) -> (T, T) {
    // (1 + tanh u)/2 is the sigmoid of 2u, which loses no digits when tanh is near −1.
    let (one, cubic) = (T::of(1.0), T::of(GELU_CUBIC));
    let square = x * x;
    let u = x * T::of(SQRT_2_OVER_PI) * cubic.fma::<FMA>(square, one);
    let sigmoid = one / (one + Float::exp::<FMA>(-(u + u)));
    let du = T::of(SQRT_2_OVER_PI) * (T::of(3.0) * cubic).fma::<FMA>(square, one);
    (x * sigmoid, (x * (du + du)).fma::<FMA>(sigmoid * (one - sigmoid), sigmoid))
}

#[inline(always)]
fn gelu_erf<T: Float, const FMA: bool>(x: T) -> (T, T) {
    let half = T::of(0.5);
    let phi = half.fma::<FMA>(Float::erf::<FMA>(x * T::of(FRAC_1_SQRT_2)), half);
    let density = Float::exp::<FMA>(-half * x * x) * T::of(FRAC_1_SQRT_2 / PI.sqrt());
    (x * phi, x.fma::<FMA>(density, phi))
}

#[inline(always)]
fn silu<T: Float, const FMA: bool>(x: T) -> (T, T) {
    let one = T::of(1.0);
    let sigmoid = one / (one + Float::exp::<FMA>(-x));
    (x * sigmoid, sigmoid * x.fma::<FMA>(one - sigmoid, one))
}

#[inline(always)]
fn relu2<T: Float, const FMA: bool>(x: T) -> (T, T) {
    // Written to propagate NaN.
    let positive = if x < T::default() { T::default() } else { x };
    (positive * positive, positive + positive)
}

#[inline(always)]
fn relu<T: Float, const FMA: bool>(x: T) -> (T, T) {
    // Written to propagate NaN.
    if x < T::default() {
        (T::default(), T::default())
    } else {
        (x, if x > T::default() { T::of(1.0) } else { x })
    }
}

/// Runs `$loop!(function)` for the activation `$f`, so that the branch is outside the loop.
macro_rules! choose {
    ($f:expr, $with:ident) => {
        match $f {
            Activation::GeluTanh => $with!(gelu_tanh),
            Activation::GeluErf => $with!(gelu_erf),
            Activation::Silu => $with!(silu),
            Activation::Relu2 => $with!(relu2),
            Activation::Relu => $with!(relu),
        }
    };
}

#[inline(always)]
fn in_place_body<T: Float, const FMA: bool>(f: Activation, x: &mut [T]) {
    macro_rules! run {
        ($f:ident) => {
            for x in x.iter_mut() {
                *x = $f::<T, FMA>(*x).0;
            }
        };
    }
    choose!(f, run)
}

#[inline(always)]
fn gate_in_place_body<T: Float, const FMA: bool>(f: Activation, gate: &[T], up: &mut [T]) {
    macro_rules! run {
        ($f:ident) => {
            for (up, &gate) in up.iter_mut().zip(gate) {
                *up *= $f::<T, FMA>(gate).0;
            }
        };
    }
    choose!(f, run)
}

#[inline(always)]
fn value_body<T: Float, const FMA: bool>(f: Activation, x: &[T], y: &mut [T]) {
    macro_rules! run {
        ($f:ident) => {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = $f::<T, FMA>(x).0;
            }
        };
    }
    choose!(f, run)
}

#[inline(always)]
fn biased_body<T: Float, const FMA: bool>(f: Activation, x: &mut [T], bias: &[T], y: &mut [T]) {
    macro_rules! run {
        ($f:ident) => {
            for (x, y) in x.chunks_exact_mut(bias.len().max(1)).zip(y.chunks_exact_mut(bias.len().max(1))) {
                for ((x, y), &bias) in x.iter_mut().zip(y).zip(bias) {
                    *x += bias;
                    *y = $f::<T, FMA>(*x).0;
                }
            }
        };
    }
    choose!(f, run)
}

#[inline(always)]
fn derivative_body<T: Float, const FMA: bool>(f: Activation, x: &[T], y: Option<&mut [T]>, dx: &mut [T]) {
    macro_rules! run {
        ($f:ident) => {
            match y {
                Some(y) => {
                    for ((y, dx), &x) in y.iter_mut().zip(dx).zip(x) {
                        let (value, derivative) = $f::<T, FMA>(x);
                        *y = value;
                        *dx *= derivative;
                    }
                }
                None => {
                    for (dx, &x) in dx.iter_mut().zip(x) {
                        *dx *= $f::<T, FMA>(x).1;
                    }
                }
            }
        };
    }
    choose!(f, run)
}

#[inline(always)]
fn gated_body<T: Float, const FMA: bool>(f: Activation, gate: &[T], up: &[T], y: &mut [T]) {
    macro_rules! run {
        ($f:ident) => {
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                *y = $f::<T, FMA>(gate).0 * up;
            }
        };
    }
    choose!(f, run)
}

#[inline(always)]
fn gated_derivative_body<T: Float, const FMA: bool>(
    f: Activation,
    gate: &[T],
    up: &[T],
    y: Option<&mut [T]>,
    dgate: &mut [T],
    dup: &mut [T],
) {
    macro_rules! run {
        ($f:ident) => {
            match y {
                Some(y) => {
                    let rows = y.iter_mut().zip(dgate).zip(dup).zip(gate).zip(up);
                    for ((((y, dgate), dup), &gate), &up) in rows {
                        let (value, derivative) = $f::<T, FMA>(gate);
                        *y = value * up;
                        *dgate = *dup * up * derivative;
                        *dup *= value;
                    }
                }
                None => {
                    for (((dgate, dup), &gate), &up) in dgate.iter_mut().zip(dup).zip(gate).zip(up) {
                        let (value, derivative) = $f::<T, FMA>(gate);
                        *dgate = *dup * up * derivative;
                        *dup *= value;
                    }
                }
            }
        };
    }
    choose!(f, run)
}

/// An activation as a node of the tape.
pub(super) fn activate<T: Float>(f: Activation, x: &Tensor) -> Result<Tensor> {
    let mut y = buffer::<T>(x.elem_count());
    with(x, |x: &[T]| {
        values(f, Matrix::Numbers(x), &mut y);
        Ok(())
    })?;
    let input = x.clone();
    tape::record(&[x], y, x.shape(), move |dy| {
        let dx = with2(&input, dy, |x: &[T], dy: &[T]| {
            let mut dx = dy.to_vec();
            derivatives(f, Matrix::Numbers(x), None, &mut dx);
            Ok(dx)
        })?;
        Ok(vec![Some(tensor(dx, input.shape())?)])
    })
}

/// A gated activation as a node of the tape.
pub(super) fn gated<T: Float>(f: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let mut y = buffer::<T>(gate.elem_count());
    with2(gate, up, |gate: &[T], up: &[T]| {
        gated_values(f, Matrix::Numbers(gate), Matrix::Numbers(up), &mut y);
        Ok(())
    })?;
    let (kept_gate, kept_up) = (gate.clone(), up.clone());
    tape::record(&[gate, up], y, gate.shape(), move |dy| {
        let (dgate, dup) = with3(&kept_gate, &kept_up, dy, |gate: &[T], up: &[T], dy: &[T]| {
            let (mut dgate, mut dup) = (buffer(dy.len()), dy.to_vec());
            let (gate, up) = (Matrix::Numbers(gate), Matrix::Numbers(up));
            gated_derivatives(f, gate, up, None, &mut dgate, &mut dup);
            Ok((dgate, dup))
        })?;
        let shape = kept_gate.shape();
        Ok(vec![Some(tensor(dgate, shape)?), Some(tensor(dup, shape)?)])
    })
}
