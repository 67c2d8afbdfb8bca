//! Recomputation (gradient checkpointing): the backward pass runs a part of a model again instead of keeping it.

use candle_core::{Result, Tensor, Var, bail};

use crate::kernel::{Float, by_dtype, fits};
use crate::tape::{self, InputGradients};

/// `f(inputs)`, of which the backward pass keeps only the inputs: it runs `f` a second time, with autograd, and
/// differentiates that ([Chen et al. 2016](https://arxiv.org/abs/1604.06174), with one segment).
///
/// The bits of result and gradients are those of `f` itself, as long as `f` is a function of its inputs: random draws
/// must be keyed. `f` gets tensors that replace `inputs`, in their order, and may use no others that lead to a
/// parameter.
///
/// # Gradient
/// That of `f`, for every input that leads to a parameter.
///
/// # Errors
/// Returns an error for tensors off the CPU or of a dtype other than float32 and float64, or if `f` fails.
pub fn recomputed(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !fits(inputs) {
        bail!("recomputed: expected inputs on the CPU, all in float32 or all in float64");
    }
    by_dtype!(inputs[0], node(inputs, f))
}

fn node<T: Float>(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let without: Vec<Tensor> = inputs.iter().map(|input| input.detach()).collect();
    let y = f(&without)?;
    let (shape, value) = (y.shape().clone(), y.flatten_all()?.to_vec1::<T>()?);
    let kept: Vec<Tensor> = inputs.iter().map(|&input| input.clone()).collect();
    tape::record(inputs, value, shape, move |dy| backward::<T>(&kept, &f, dy))
}

/// Parameters are passed as they are, so that their gradients take the usual way; other inputs are detached from the
/// graph that produced them.
fn backward<T: Float>(
    inputs: &[Tensor],
    f: &impl Fn(&[Tensor]) -> Result<Tensor>,
    dy: &Tensor,
) -> Result<InputGradients> {
    let ends = inputs.iter().map(|input| {
        let is_between = input.track_op() && !input.is_variable();
        Ok(if is_between { Var::from_tensor(&input.detach())?.into_inner() } else { input.clone() })
    });
    let ends: Vec<Tensor> = ends.collect::<Result<_>>()?;
    // A loss with the gradient dy with respect to y.
    let (y, dy) = (f(&ends)?, dy.clone());
    let loss = tape::record(&[&y], vec![T::default()], (), move |_| Ok(vec![Some(dy.clone())]))?;
    drop(y);
    let store = loss.backward()?;
    Ok(ends.iter().map(|end| store.get(end).cloned()).collect())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::{Gradients, linear, softmax};

    fn var(shape: &[usize], seed: usize) -> Var {
        let n: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..n).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 9.0 - 1.0).collect();
        Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// `softmax(x W₁ᵀ) W₂ᵀ + x`, `x` used twice.
    fn part(inputs: &[Tensor]) -> Result<Tensor> {
        let [x, first, second] = inputs else { bail!("three inputs") };
        linear(&softmax(&linear(x, first, None)?)?, second, None)? + x
    }

    #[test]
    fn recomputed_gradients_are_bit_identical() {
        let (x, first, second) = (var(&[5, 4], 1), var(&[6, 4], 2), var(&[4, 6], 3));
        let named: Vec<(String, Var)> =
            [("x", &x), ("first", &first), ("second", &second)].map(|(n, v)| (n.into(), v.clone())).into();
        let run = |again: bool| {
            let mut gradients = Gradients::new(&named).unwrap();
            let mut y = x.affine(2.0, 0.5).unwrap();
            for _ in 0..2 {
                let inputs = [&y, first.as_tensor(), second.as_tensor()];
                y = match again {
                    true => recomputed(&inputs, part).unwrap(),
                    false => part(&inputs.map(Clone::clone)).unwrap(),
                };
            }
            let loss = y.sqr().unwrap().sum_all().unwrap();
            crate::backward(&loss, &mut gradients).unwrap();
            let bits = |(_, gradient): (&str, Option<&Tensor>)| -> Vec<u32> {
                let numbers: Vec<f32> = gradient.unwrap().flatten_all().unwrap().to_vec1().unwrap();
                numbers.into_iter().map(f32::to_bits).collect()
            };
            (loss.to_scalar::<f32>().unwrap().to_bits(), gradients.iter().map(bits).collect::<Vec<_>>())
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn gradients_go_to_candle_without_a_sink() {
        let (x, first, second) = (var(&[5, 4], 1), var(&[6, 4], 2), var(&[4, 6], 3));
        let inputs = [x.as_tensor(), first.as_tensor(), second.as_tensor()];
        let store = |y: Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let (ours, plain) =
            (store(recomputed(&inputs, part).unwrap()), store(part(&inputs.map(Clone::clone)).unwrap()));
        for input in inputs {
            let of = |store: &candle_core::backprop::GradStore| -> Vec<Vec<f32>> {
                store.get(input).unwrap().to_vec2().unwrap()
            };
            assert_eq!(of(&ours), of(&plain));
        }
    }

    #[test]
    fn constants_have_no_node_and_other_types_are_refused() {
        let x = Tensor::ones((2, 2), DType::F32, &Device::Cpu).unwrap();
        let double = |inputs: &[Tensor]| &inputs[0] + &inputs[0];
        assert!(!recomputed(&[&x], double).unwrap().track_op());
        let half = x.to_dtype(DType::BF16).unwrap();
        assert!(recomputed(&[&half], double).unwrap_err().to_string().contains("float32"));
    }
}
