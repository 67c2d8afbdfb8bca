//! The gradient census: before the first update, every trainable parameter must have a true gradient.
//!
//! Some operations of candle-nn have no backward pass. A model that uses one trains with frozen layers and no error;
//! here it is refused, and the parameters are named.

use std::collections::BTreeSet;

use vulpes_ops::Gradients;

use crate::error::{Error, Result};
use crate::refused::Census;

/// Refuses gradients if one is missing or not finite.
///
/// A gradient of zeros counts as a gradient: unused rows of an embedding, and a key's bias, which softmax cancels, have
/// no other. Of all parameters, `all`, only those declared `frozen` may have no buffer.
///
/// # Errors
/// Returns [`Error::Census`] with every such parameter.
pub fn census<'a>(
    gradients: &Gradients,
    all: impl IntoIterator<Item = &'a str>,
    frozen: &BTreeSet<String>,
) -> Result<()> {
    let counted: BTreeSet<&str> = gradients.iter().map(|(name, _)| name).collect();
    let is_untrained = |name: &&str| !counted.contains(name) && !frozen.contains(*name);
    let untrained = all.into_iter().filter(is_untrained).map(str::to_owned).collect();
    let severed = gradients.iter().filter(|(_, gradient)| gradient.is_none());
    let severed = severed.map(|(name, _)| name.to_owned()).collect();
    let not_finite = gradients.not_finite()?.into_iter().map(str::to_owned).collect();
    let census = Census { untrained, severed, not_finite };
    if census == Census::default() { Ok(()) } else { Err(Error::Census(census)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor, Var};
    use candle_nn::{Module, ops};
    use vulpes_ops::backward;

    /// A small model by hand: `loss = sum(weights(x q) x v)` after a norm, with the operations to test.
    fn run(softmax: fn(&Tensor) -> candle_core::Result<Tensor>, fused_norm: bool) -> Result<()> {
        let var = |seed: f32| {
            let values: Vec<f32> = (0..16).map(|i| (seed + i as f32).sin()).collect();
            Var::from_vec(values, (4, 4), &Device::Cpu)
        };
        let (query, value) = (var(1.0)?, var(2.0)?);
        let scale = Var::from_tensor(&Tensor::ones(4, DType::F32, &Device::Cpu)?)?;
        let shift = Var::from_tensor(&Tensor::zeros(4, DType::F32, &Device::Cpu)?)?;
        let named = [("query", &query), ("value", &value), ("norm.weight", &scale), ("norm.bias", &shift)];
        let mut gradients = Gradients::new(&named.map(|(name, var)| (name.to_owned(), var.clone())))?;
        let x = var(3.0)?.as_detached_tensor();
        let x = if fused_norm {
            let norm = candle_nn::LayerNorm::new(scale.as_tensor().clone(), shift.as_tensor().clone(), 1e-5);
            norm.forward(&x)?
        } else {
            ops::layer_norm_slow(&x, &scale, &shift, 1e-5)?
        };
        let weights = softmax(&x.matmul(&query)?)?;
        let loss = weights.matmul(&x.matmul(&value)?)?.sqr()?.sum_all()?;
        backward(&loss, &mut gradients)?;
        census(&gradients, named.map(|(name, _)| name), &BTreeSet::new())
    }

    fn composed(x: &Tensor) -> candle_core::Result<Tensor> {
        ops::softmax(x, candle_core::D::Minus1)
    }

    #[test]
    fn a_valid_model_passes() {
        assert!(run(composed, false).is_ok());
    }

    #[test]
    fn a_softmax_without_backward_is_refused_by_name() {
        let error = run(ops::softmax_last_dim, false).unwrap_err().to_string();
        assert!(
            error.contains("no gradient reaches `query`: an operation between it and the loss"),
            "{error}"
        );
        assert!(!error.contains("`value`"), "{error}");
    }

    #[test]
    fn a_norm_without_backward_is_refused_by_name() {
        let error = run(composed, true).unwrap_err().to_string();
        assert!(
            error.contains("no gradient reaches `norm.weight`, `norm.bias`: an operation between them"),
            "{error}"
        );
        assert!(!error.contains("`query`"), "{error}");
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_refused_by_name() {
        let x = Var::from_slice(&[1.0f32, 0.0], 2, &Device::Cpu).unwrap();
        let mut gradients = Gradients::new(&[("x".to_owned(), x.clone())]).unwrap();
        backward(&x.sqrt().unwrap().sum_all().unwrap(), &mut gradients).unwrap();
        let error = census(&gradients, [], &BTreeSet::new()).unwrap_err().to_string();
        assert!(error.contains("the gradient of `x` is not finite"), "{error}");
    }

    #[test]
    fn a_parameter_that_is_neither_trained_nor_declared_frozen_is_refused_by_name() {
        let x = Var::from_slice(&[1.0f32, 2.0], 2, &Device::Cpu).unwrap();
        let mut gradients = Gradients::new(&[("x".to_owned(), x.clone())]).unwrap();
        backward(&x.sqr().unwrap().sum_all().unwrap(), &mut gradients).unwrap();
        let frozen = BTreeSet::from(["y".to_owned()]);
        assert!(census(&gradients, ["x", "y"], &frozen).is_ok());
        let error = census(&gradients, ["x", "y", "z"], &frozen).unwrap_err().to_string();
        assert!(error.contains("not trained and not in train.freeze: `z`"), "{error}");
    }
}
