//! The vocabulary head on the CPU, in chunks of rows.
//!
//! While it holds a chunk's logits it can also compute their gradients. It does if [`crate::forward_for`] has announced
//! the factor on the loss; else the backward pass recomputes the logits.

use crate::cross_entropy::cpu::{backward, forward};
use crate::kernel::narrow::{Matrix, with_factor};
use crate::kernel::product::{View, Write, project};
use crate::kernel::read::{buffer, tensor, with, with_option};
use crate::kernel::scratch::scratch;
use crate::kernel::{Float, elementwise, narrow};
use crate::tape::InputGradients;
use crate::{CrossEntropyOptions, Loss, linear, sink, tape};
use candle_core::{Result, Tensor, bail};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The maximum number of logits held at a time, unless a single row has more. It decides how the gradients of weight and
/// bias are summed, and so their bits.
const HELD: usize = 16 << 20;

/// The same if these have no gradients: a weight is packed anew for each chunk.
const HELD_FROZEN: usize = 2 * HELD;

/// Rows of a narrow weight that are widened at a time: a multiple of the products' inner blocks, so that the sums over
/// the vocabulary are those of the entire weight.
const WIDENED: usize = 10 * 384;

/// Equal chunks of rows, each with at most `held` logits.
fn chunks(n: usize, v: usize, held: usize) -> impl Iterator<Item = Range<usize>> {
    let count = (n * v).div_ceil(held).clamp(1, n.max(1));
    let size = n.div_ceil(count).max(1);
    (0..n).step_by(size).map(move |start| start..n.min(start + size))
}

/// The inputs of the head.
struct Problem {
    hidden: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    targets: Vec<i64>,
    options: CrossEntropyOptions,
    /// The numbers of rows, of channels and of vocabulary entries.
    sizes: (usize, usize, usize),
}

/// Head and loss as one node of the tape.
pub(super) fn node<T: Float>(
    hidden: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    targets: &[i64],
    options: &CrossEntropyOptions,
    count: usize,
) -> Result<Loss> {
    let (n, d) = hidden.dims2()?;
    let v = weight.dim(0)?;
    let mut inputs = vec![hidden, weight];
    inputs.extend(bias);
    let (targets, options) = (targets.to_vec(), options.clone());
    let (hidden, weight, bias) = (hidden.clone(), weight.clone(), bias.cloned());
    let problem = Problem { hidden, weight, bias, targets, options, sizes: (n, d, v) };
    let promised = sink::promised_scale().filter(|_| inputs.iter().any(|input| input.track_op()));
    let mut losses = vec![0.0; n];
    let Some(scale) = promised.map(T::of) else {
        problem.each_chunk::<T>(&mut losses, |_, _, _, _| Ok(()))?;
        let sum = tape::record(&inputs, vec![T::of(losses.iter().sum())], (), move |dloss| {
            let scale = with(dloss, |dloss: &[T]| Ok(dloss[0]))?;
            problem.gradients(scale, &mut vec![0.0; n])
        })?;
        return Ok(Loss { sum, count });
    };
    let made = Mutex::new(Some(problem.gradients(scale, &mut losses)?));
    let sum = tape::record(&inputs, vec![T::of(losses.iter().sum())], (), move |dloss| {
        let found = with(dloss, |dloss: &[T]| Ok(dloss[0]))?;
        if found != scale {
            bail!("lm_head: the loss must be multiplied by {}, not by {}", scale.to_f64(), found.to_f64());
        }
        match made.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(made) => Ok(made),
            None => bail!("lm_head: the gradients of one forward pass were requested twice"),
        }
    })?;
    Ok(Loss { sum, count })
}

impl Problem {
    /// Calls `f` with rows of the weight: all of them, or for a narrow weight a part at a time, widened.
    fn weight<T: Float>(&self, mut f: impl FnMut(Range<usize>, Matrix<'_, T>) -> Result<()>) -> Result<()> {
        let v = self.sizes.2;
        if !narrow::is_narrow(&self.weight) {
            return with(&self.weight, |weight: &[T]| f(0..v, Matrix::Numbers(weight)));
        }
        for start in (0..v).step_by(WIDENED) {
            let rows = start..v.min(start + WIDENED);
            let part = self.weight.narrow(0, rows.start, rows.len())?;
            with_factor(&part, |weight| f(rows, weight))?;
        }
        Ok(())
    }

    /// Computes the logits chunk by chunk, with the losses of their rows; `each` gets a chunk's row range, logits,
    /// log-sums and hidden rows.
    fn each_chunk<T: Float>(
        &self,
        losses: &mut [f64],
        mut each: impl FnMut(Range<usize>, &mut [T], &[T], &[T]) -> Result<()>,
    ) -> Result<()> {
        let (n, d, v) = self.sizes;
        let learns = self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op);
        let most = if learns { HELD } else { HELD_FROZEN };
        with(&self.hidden, |hidden: &[T]| {
            with_option(self.bias.as_ref(), |bias: Option<&[T]>| {
                let (mut held, mut log_sums) = (scratch::<T>(0), buffer::<T>(n));
                for rows in chunks(n, v, most) {
                    held.resize(rows.len() * v);
                    let (logits, log_sums) = (&mut held[..], &mut log_sums[rows.clone()]);
                    let hidden = &hidden[rows.start * d..rows.end * d];
                    self.weight(|words, weight| {
                        let (sizes, part) = ((rows.len(), d, words.len()), &mut logits[words.start..]);
                        linear::cpu::product(hidden, sizes, weight, part, v, Write::Store);
                        Ok(())
                    })?;
                    bias.iter().for_each(|bias| elementwise::add_bias(logits, bias));
                    let (targets, losses) = (&self.targets[rows.clone()], &mut losses[rows.clone()]);
                    forward(logits, v, targets, &self.options, losses, log_sums);
                    each(rows, logits, log_sums, hidden)?;
                }
                Ok(())
            })
        })
    }

    /// The losses, and `scale` times their gradients with respect to hidden rows, weight and bias.
    fn gradients<T: Float>(&self, scale: T, losses: &mut [f64]) -> Result<InputGradients> {
        let (n, d, v) = self.sizes;
        let mut dhidden = buffer::<T>(n * d);
        // The weight's gradient is computed chunk by chunk inside the sink's call: first the other two, then that.
        let mut dbias_sum = buffer::<T>(if self.bias.is_some() { v } else { 0 });
        let mut run = |mut dweight: Option<(&mut [T], Write)>| -> Result<()> {
            self.each_chunk::<T>(losses, |rows, logits, log_sums, hidden| {
                backward(logits, v, &self.targets[rows.clone()], &self.options, log_sums, scale);
                let view = View::new(logits, rows.len(), v);
                let dh = &mut dhidden[rows.start * d..rows.end * d];
                self.weight(|words, weight| {
                    let write = if words.start == 0 { Write::Store } else { Write::Add };
                    let sizes = (rows.len(), d, words.len());
                    linear::cpu::input(&logits[words.start..], v, sizes, weight, dh, write);
                    Ok(())
                })?;
                if let Some((out, write)) = &mut dweight {
                    project(out, d, *write, T::of(1.0), view.t(), View::new(hidden, rows.len(), d));
                    *write = Write::Add;
                }
                if !dbias_sum.is_empty() {
                    elementwise::column_sums(&mut dbias_sum, logits, v, v, true);
                }
                Ok(())
            })?;
            if let Some((out, Write::Store)) = dweight {
                out.fill(T::default());
            }
            Ok(())
        };
        let mut done = false;
        let dweight = sink::parameter::<T>(&self.weight, |out, write| {
            done = true;
            run(Some((out, write)))
        })?;
        if !done {
            run(None)?;
        }
        let dbias = match &self.bias {
            Some(bias) => sink::parameter::<T>(bias, |out, write| {
                elementwise::column_sums(out, &dbias_sum, v, v, write == Write::Add);
                Ok(())
            })?,
            None => None,
        };
        Ok(vec![Some(tensor(dhidden, (n, d))?), dweight, dbias])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use crate::{Gradients, Loss, backward, forward_for, lm_head};

    use super::*;

    fn var(shape: &[usize], seed: usize) -> Var {
        let n: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 9.0 - 1.0).collect();
        Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// The bits of all gradients; `promised` is the factor announced to the forward pass, `scale` the actual one.
    fn run(promised: Option<f64>, scale: f64) -> Result<Vec<Vec<u32>>> {
        let (hidden, weight, bias) = (var(&[7, 5], 1), var(&[11, 5], 2), var(&[11], 3));
        let named = [("hidden", &hidden), ("weight", &weight), ("bias", &bias)];
        let mut gradients = Gradients::new(&named.map(|(name, var)| (name.to_owned(), var.clone())))?;
        let options = CrossEntropyOptions { label_smoothing: 0.1, ..CrossEntropyOptions::default() };
        let forward = || -> Result<Loss> {
            // The table is also used before the head: both add to the same gradient.
            let targets: Vec<i64> = vec![3, 0, -100, 10, 4, 4, 9];
            let hidden = (hidden.as_tensor() + weight.narrow(0, 2, 7)?)?;
            lm_head(&hidden, &weight, Some(bias.as_tensor()), &targets, &options)
        };
        for _ in 0..2 {
            let loss = match promised {
                Some(promised) => forward_for(&mut gradients, promised, forward)?,
                None => forward()?,
            };
            backward(&loss.sum.affine(scale, 0.0)?, &mut gradients)?;
        }
        let bits = |(_, gradient): (&str, Option<&Tensor>)| -> Result<Vec<u32>> {
            let numbers: Vec<f32> = gradient.unwrap().flatten_all()?.to_vec1()?;
            Ok(numbers.into_iter().map(f32::to_bits).collect())
        };
        gradients.iter().map(bits).collect()
    }

    #[test]
    fn gradients_computed_early_equal_those_computed_late() {
        assert_eq!(run(Some(1.0 / 6.0), 1.0 / 6.0).unwrap(), run(None, 1.0 / 6.0).unwrap());
    }

    #[test]
    fn another_factor_than_the_announced_one_is_refused() {
        let error = run(Some(0.5), 0.25).unwrap_err().to_string();
        assert!(error.contains("must be multiplied by 0.5, not by 0.25"), "{error}");
    }
}
