//! The gradient census: before the first update, every trainable parameter must have a true gradient.
//!
//! Some operations of candle-nn give results without a backward. A model that uses one trains on with frozen layers
//! and no error; here it is refused, and the parameters are named.

use std::collections::BTreeSet;

use vulpes_ops::Gradients;

use crate::error::{Error, Result};

/// Refuses gradients of which one is absent or not finite.
///
/// A gradient of zeros is a gradient: rows of an embedding that no token used, and a key's bias, which softmax cancels,
/// have none other. Of the model's parameters, `all`, only those that are declared `frozen` may have no buffer.
///
/// # Errors
/// [`Error::Census`], naming every such parameter.
pub fn census<'a>(
    gradients: &Gradients,
    all: impl IntoIterator<Item = &'a str>,
    frozen: &BTreeSet<String>,
) -> Result<()> {
    let counted: BTreeSet<&str> = gradients.iter().map(|(name, _)| name).collect();
    let forgotten: Vec<String> = all
        .into_iter()
        .filter(|name| !counted.contains(name) && !frozen.contains(*name))
        .map(|name| format!("`{name}`"))
        .collect();
    let severed: Vec<String> = gradients
        .iter()
        .filter(|(_, gradient)| gradient.is_none())
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let mut wrong = Vec::new();
    if !forgotten.is_empty() {
        wrong.push(format!(
            "nothing is learned for {}, and train.freeze doesn't name it",
            forgotten.join(", ")
        ));
    }
    if !severed.is_empty() {
        wrong.push(format!(
            "no gradient reaches {}: between {} and the loss stands an operation without a backward; to keep a \
             parameter as it is, name it in train.freeze",
            severed.join(", "),
            if severed.len() == 1 { "it" } else { "them" },
        ));
    }
    wrong
        .extend(gradients.not_finite()?.iter().map(|name| format!("the gradient of `{name}` is not finite")));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Census(format!("the gradient census refuses the first update: {}", wrong.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor, Var};
    use candle_nn::{Module, ops};
    use vulpes_ops::backward;

    /// A small model by hand: `loss = sum(weights(x q) x v)` behind a norm, with the operations to be tried.
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
    fn a_sound_model_passes() {
        assert!(run(composed, false).is_ok());
    }

    #[test]
    fn a_softmax_without_backward_is_refused_by_name() {
        let error = run(ops::softmax_last_dim, false).unwrap_err().to_string();
        assert!(error.contains("no gradient reaches `query`: between it and the loss"), "{error}");
        assert!(!error.contains("`value`"), "{error}");
    }

    #[test]
    fn a_norm_without_backward_is_refused_by_name() {
        let error = run(composed, true).unwrap_err().to_string();
        assert!(error.contains("no gradient reaches `norm.weight`, `norm.bias`: between them"), "{error}");
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
        assert!(error.contains("nothing is learned for `z`"), "{error}");
    }
}
