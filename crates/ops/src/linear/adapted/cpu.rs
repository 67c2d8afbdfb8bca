//! Projections with and without an adapter on the CPU, as used by the sublayers.
//!
//! An adapter's contribution uses float32 products even if the projection's own factors are rounded: it is small, and
//! it is all that is trained.

use candle_core::{Result, Tensor, bail};

use super::super::cpu::{bias_gradient, input, product, weight_gradient};
use crate::dropout::{self, Dropout};
use crate::kernel::Float;
use crate::kernel::elementwise;
use crate::kernel::narrow::{with_factor, with_matrix};
use crate::kernel::product::{View, Write, matmul};
use crate::kernel::read::{buffer, tensor, with, with_option, with2};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::parts::{Adapter, Linear};
use crate::sink;
use crate::tape::{self, InputGradients};

/// An applied projection: what its backward pass needs in addition to its input.
pub(crate) struct Applied<T: Float> {
    pub(crate) projection: Linear<Tensor>,
    adapted: Option<Adapted<T>>,
}

/// The kept values of an adapter.
struct Adapted<T: Float> {
    adapter: Adapter<Tensor>,
    /// `A dropout(x)ᵀ`, [r, n]: a product of few rows is faster than one of few columns.
    inner: Scratch<T>,
    rank: usize,
    dropout: Option<Dropout>,
    /// The number of rows of x that dropout counts.
    rows: usize,
    gain: Option<Gain<T>>,
}

/// `m/‖V‖` of each output, and `1/‖V‖`.
struct Gain<T> {
    gain: Vec<T>,
    inverse: Vec<T>,
}

/// The gradient of a projection's output, for the gradients of its input and parameters.
pub(crate) struct Incoming<'a, T: Float> {
    /// With respect to `y`, rows `stride` apart: that of the bias.
    dy: Values<'a, T>,
    stride: usize,
    /// With respect to `x Wᵀ + …` before the magnitude, [n, o], if there is one.
    dz: Option<Scratch<T>>,
    /// `s · Bᵀ dzᵀ`, [r, n].
    dinner: Option<Scratch<T>>,
}

impl<T: Float> Incoming<'_, T> {
    /// The gradient before the magnitude, and the stride of its rows.
    fn dz(&self, o: usize) -> (&[T], usize) {
        self.dz.as_ref().map_or((&self.dy, self.stride), |dz| (dz, o))
    }
}

impl<T: Float> Applied<T> {
    /// `out ← x Wᵀ` with the adapter's contribution, or adds it to `out`; the bias is left to the caller. x is [n, i],
    /// of `rows` rows that dropout counts; the rows of `out` are `stride` apart.
    pub(crate) fn forward(
        projection: Linear<&Tensor>,
        dropout: Option<&Dropout>,
        x: &[T],
        (n, rows): (usize, usize),
        (out, stride, write): (&mut [T], usize, Write),
    ) -> Result<Self> {
        let (o, i) = projection.weight.dims2()?;
        with_factor(projection.weight, |weight| {
            if n > 0 {
                product(x, (n, i, o), weight, out, stride, write);
            }
            Ok(())
        })?;
        let adapted = match projection.adapter {
            Some(adapter) => {
                adapter.check((o, i))?;
                if write == Write::Add && adapter.magnitude.is_some() {
                    bail!("adapter: a projection with a magnitude can't be added to another value");
                }
                Some(Adapted::forward(projection.weight, adapter, dropout, x, (n, rows), (out, stride))?)
            }
            None => None,
        };
        Ok(Self { projection: projection.owned(), adapted })
    }

    /// Prepares the backward pass from `dy`, the gradient of the `n` output rows.
    pub(crate) fn incoming<'a>(&self, dy: Values<'a, T>, stride: usize, n: usize) -> Result<Incoming<'a, T>> {
        let mut incoming = Incoming { dy, stride, dz: None, dinner: None };
        let Some(adapted) = &self.adapted else { return Ok(incoming) };
        let o = self.projection.weight.dim(0)?;
        if let Some(Gain { gain, .. }) = &adapted.gain {
            let mut dz = scratch::<T>(n * o);
            for (dz, dy) in dz.chunks_exact_mut(o.max(1)).zip(incoming.dy.chunks(stride.max(1))) {
                dz.iter_mut().zip(dy).zip(gain).for_each(|((dz, dy), gain)| *dz = *dy * *gain);
            }
            incoming.dz = Some(dz);
        }
        let mut dinner = scratch::<T>(n * adapted.rank);
        let (dz, stride) = incoming.dz(o);
        let scale = T::of(adapted.adapter.scale);
        with(&adapted.adapter.b, |b: &[T]| {
            let dz = View::strided(dz, n, o, stride);
            matmul(&mut dinner, n, Write::Store, scale, View::new(b, o, adapted.rank).t(), dz.t());
            Ok(())
        })?;
        incoming.dinner = Some(dinner);
        Ok(incoming)
    }

    /// The gradient of the input, stored in `dx` or added to it.
    pub(crate) fn input(
        &self,
        incoming: &Incoming<'_, T>,
        n: usize,
        dx: &mut [T],
        write: Write,
    ) -> Result<()> {
        let (o, i) = self.projection.weight.dims2()?;
        let (dz, stride) = incoming.dz(o);
        with_factor(&self.projection.weight, |weight| {
            input(dz, stride, (n, i, o), weight, dx, write);
            Ok(())
        })?;
        match (&self.adapted, &incoming.dinner) {
            (Some(adapted), Some(dinner)) => adapted.input(dinner, (n, i), dx),
            _ => Ok(()),
        }
    }

    /// The gradients of the parameters, given the input, in the order of [`Linear::inputs`].
    pub(crate) fn parameters(&self, incoming: &Incoming<'_, T>, x: &[T], n: usize) -> Result<InputGradients> {
        let Linear { weight, bias, adapter: _ } = &self.projection;
        let (o, i) = weight.dims2()?;
        let (dz, stride) = incoming.dz(o);
        let mut found = vec![weight_gradient(x, (n, i, o), dz, stride, weight)?];
        if let Some(bias) = bias {
            // The bias is added after the magnitude.
            found.push(bias_gradient(bias, &incoming.dy, o, incoming.stride)?);
        }
        if let (Some(adapted), Some(dinner)) = (&self.adapted, &incoming.dinner) {
            found.extend(adapted.parameters(weight, incoming, dinner, x, (n, i, o))?);
        }
        Ok(found)
    }
}

impl<T: Float> Adapted<T> {
    fn forward(
        weight: &Tensor,
        adapter: Adapter<&Tensor>,
        dropout: Option<&Dropout>,
        x: &[T],
        (n, rows): (usize, usize),
        (out, stride): (&mut [T], usize),
    ) -> Result<Self> {
        let ((o, i), rank) = (weight.dims2()?, adapter.a.dim(0)?);
        let dropout = adapter.dropout(dropout);
        let dropped = dropped(dropout.as_ref(), rows, x);
        let mut inner = scratch::<T>(n * rank);
        let scale = T::of(adapter.scale);
        with2(adapter.a, adapter.b, |a: &[T], b: &[T]| {
            let (x, a) = (View::new(&dropped, n, i).t(), View::new(a, rank, i));
            matmul(&mut inner, n, Write::Store, T::of(1.0), a, x);
            if n > 0 {
                let (inner, b) = (View::new(&inner, rank, n).t(), View::new(b, o, rank).t());
                matmul(out, stride, Write::Add, scale, inner, b);
            }
            Ok(())
        })?;
        let gain = adapter.magnitude.map(|magnitude| Gain::of(weight, &adapter, magnitude)).transpose()?;
        if let Some(Gain { gain, .. }) = &gain {
            for row in out.chunks_mut(stride.max(1)).take(n) {
                row.iter_mut().zip(gain).for_each(|(y, gain)| *y *= *gain);
            }
        }
        Ok(Self { adapter: adapter.owned(), inner, rank, dropout, rows, gain })
    }

    /// Adds the gradient through A to the gradient of x.
    fn input(&self, dinner: &[T], (n, i): (usize, usize), dx: &mut [T]) -> Result<()> {
        with(&self.adapter.a, |a: &[T]| {
            let (dinner, a) = (View::new(dinner, self.rank, n).t(), View::new(a, self.rank, i));
            let Some(rule) = &self.dropout else {
                matmul(dx, i, Write::Add, T::of(1.0), dinner, a);
                return Ok(());
            };
            let mut ddropped = scratch::<T>(n * i);
            matmul(&mut ddropped, i, Write::Store, T::of(1.0), dinner, a);
            let back = dropped(Some(rule), self.rows, &ddropped);
            elementwise::add_to(&mut dx[..n * i], &back);
            Ok(())
        })
    }

    /// The gradients of A, B and the magnitude.
    fn parameters(
        &self,
        weight: &Tensor,
        incoming: &Incoming<'_, T>,
        dinner: &[T],
        x: &[T],
        (n, i, o): (usize, usize, usize),
    ) -> Result<InputGradients> {
        let (rank, one) = (self.rank, T::of(1.0));
        let (dz, stride) = incoming.dz(o);
        let da = sink::parameter::<T>(&self.adapter.a, |out, write| {
            let dropped = dropped(self.dropout.as_ref(), self.rows, x);
            matmul(out, i, write, one, View::new(dinner, rank, n), View::new(&dropped, n, i));
            Ok(())
        })?;
        let db = sink::parameter::<T>(&self.adapter.b, |out, write| {
            // Few rows here, too: the transpose is computed and then transposed back.
            let mut turned = scratch::<T>(rank * o);
            let (inner, dz) = (View::new(&self.inner, rank, n), View::strided(dz, n, o, stride));
            matmul(&mut turned, o, Write::Store, T::of(self.adapter.scale), inner, dz);
            for (r, turned) in turned.chunks_exact(o.max(1)).enumerate() {
                for (out, &turned) in out[r..].iter_mut().step_by(rank).zip(turned) {
                    *out = if write == Write::Store { turned } else { *out + turned };
                }
            }
            Ok(())
        })?;
        let mut found = vec![da, db];
        if let (Some(magnitude), Some(Gain { inverse, .. })) = (&self.adapter.magnitude, &self.gain) {
            // The derivative of m/‖V‖ · z by m is z/‖V‖; z is recomputed.
            found.push(sink::parameter::<T>(magnitude, |out, write| {
                let mut z = scratch::<T>(n * o);
                with_factor(weight, |weight| {
                    product(x, (n, i, o), weight, &mut z, o, Write::Store);
                    Ok(())
                })?;
                with(&self.adapter.b, |b: &[T]| {
                    let (inner, b) = (View::new(&self.inner, rank, n).t(), View::new(b, o, rank).t());
                    matmul(&mut z, o, Write::Add, T::of(self.adapter.scale), inner, b);
                    Ok(())
                })?;
                let rows = z.chunks_exact_mut(o.max(1)).zip(incoming.dy.chunks(incoming.stride.max(1)));
                for (z, dy) in rows {
                    for ((z, dy), inverse) in z.iter_mut().zip(dy).zip(inverse) {
                        *z *= *dy * *inverse;
                    }
                }
                elementwise::column_sums(out, &z, o, o, write == Write::Add);
                Ok(())
            })?);
        }
        Ok(found)
    }
}

impl<T: Float> Gain<T> {
    fn of(weight: &Tensor, adapter: &Adapter<&Tensor>, magnitude: &Tensor) -> Result<Self> {
        let ((o, i), rank) = (weight.dims2()?, adapter.a.dim(0)?);
        let mut whole = scratch::<T>(o * i);
        with_matrix(weight, |weight: &[T]| {
            whole.copy_from_slice(weight);
            Ok(())
        })?;
        with2(adapter.a, adapter.b, |a: &[T], b: &[T]| {
            let (b, a) = (View::new(b, o, rank), View::new(a, rank, i));
            matmul(&mut whole, i, Write::Add, T::of(adapter.scale), b, a);
            Ok(())
        })?;
        let length = |row: &[T]| T::of(elementwise::sum_of_squares(row).sqrt());
        let inverse: Vec<T> =
            whole.chunks_exact(i.max(1)).map(|row| T::of(1.0 / length(row).to_f64())).collect();
        let gain = with(magnitude, |magnitude: &[T]| {
            Ok(magnitude.iter().zip(&inverse).map(|(magnitude, inverse)| *magnitude * *inverse).collect())
        })?;
        Ok(Self { gain, inverse })
    }
}

/// x, or x after dropout.
fn dropped<'x, T: Float>(dropout: Option<&Dropout>, rows: usize, x: &'x [T]) -> Values<'x, T> {
    let Some(rule) = dropout else { return Values::Borrowed(x) };
    let mut dropped = scratch::<T>(x.len());
    dropout::cpu::apply(rule, rows, x, None, &mut dropped);
    Values::Owned(dropped)
}

/// A projection with or without an adapter as a node of the tape.
pub(crate) fn node<T: Float>(
    x: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
    inputs: &[&Tensor],
) -> Result<Tensor> {
    let (o, i) = projection.weight.dims2()?;
    let n = x.elem_count().checked_div(i).unwrap_or(0);
    let rows = x.dims().first().copied().unwrap_or(1);
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = o;
    }
    let mut y = buffer::<T>(n * o);
    let applied = with(x, |x: &[T]| {
        let applied = Applied::forward(projection, dropout, x, (n, rows), (&mut y, o, Write::Store))?;
        with_option(projection.bias, |bias| {
            bias.iter().for_each(|bias| elementwise::add_bias(&mut y, bias));
            Ok(applied)
        })
    })?;
    let x = x.clone();
    tape::record(inputs, y, shape, move |dy| {
        with2(&x, dy, |values: &[T], dy: &[T]| {
            let incoming = applied.incoming(Values::Borrowed(dy), o, n)?;
            let mut found = vec![None];
            if x.track_op() {
                let mut dx = buffer::<T>(n * i);
                applied.input(&incoming, n, &mut dx, Write::Store)?;
                found[0] = Some(tensor(dx, x.shape())?);
            }
            found.extend(applied.parameters(&incoming, values, n)?);
            Ok(found)
        })
    })
}
