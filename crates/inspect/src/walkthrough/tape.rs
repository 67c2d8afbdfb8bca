//! The example as tensors: forward pass with the model's operations, autodiff, gradient descent.
//!
//! The gradient of an intermediate quantity is found by adding a zero to it: the derivative with respect to that zero
//! is the derivative with respect to the quantity.

use candle_core::{DType, Device, Tensor, Var};
use vulpes_ops::{self as ops, AttentionOptions, CrossEntropyOptions, Gradients, Mask, SgdStep};

use super::GradientsOf;
use super::given::Given;
use crate::error::Error;

/// The parameters, and the zeros for the intermediate gradients.
pub(super) struct Tape {
    /// Keys `[1, s, 1, 2]`; with the query (1, 0), the first component of each is its score.
    keys: Var,
    /// Values `[1, s, 1, 2]`.
    values: Var,
    /// Output projection `[v, 2]`.
    wout: Var,
    gradients: Option<Gradients>,
}

/// One pass, forward and backward.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) scores: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) context: Vec<f64>,
    pub(super) logits: Vec<f64>,
    pub(super) probabilities: Vec<f64>,
    pub(super) loss: f64,
    pub(super) gradients: GradientsOf,
}

impl Tape {
    pub(super) fn new(given: &Given) -> Result<Self, Error> {
        let n = given.words.len();
        let keys: Vec<f64> = given.weights.iter().flat_map(|weight| [weight.ln(), 0.0]).collect();
        let rows = |rows: &[[f64; 2]]| rows.concat();
        let var = |values, shape: &[usize]| Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?);
        Ok(Self {
            keys: var(keys, &[1, n, 1, 2])?,
            values: var(rows(given.embeddings), &[1, n, 1, 2])?,
            wout: var(rows(&given.wout), &[4, 2])?,
            gradients: None,
        })
    }

    /// Runs a pass with the current parameters; its gradients are kept for [`Tape::update`].
    pub(super) fn run(&mut self, target: usize) -> Result<Pass, Error> {
        let (_, n, _, _) = self.keys.dims4()?;
        let zero = |shape: &[usize]| Var::zeros(shape, DType::F64, &Device::Cpu);
        let (zero_context, zero_logits) = (zero(&[1, 2])?, zero(&[1, 4])?);

        // The last word is the only query: it may attend to itself and all words before it.
        let query = Tensor::from_slice(&[1.0f64, 0.0], (1, 1, 1, 2), &Device::Cpu)?;
        let mask = Mask::causal().past(n - 1);
        let options = AttentionOptions { scale: 1.0, mask: &mask, dropout: None };
        let pattern = ops::attention_pattern(&query, &self.keys, &self.values, &options)?;
        let context = (pattern.context_bthk.reshape((1, 2))? + zero_context.as_tensor())?;
        let logits = (ops::linear(&context, &self.wout, None)? + zero_logits.as_tensor())?;
        let probabilities = ops::softmax(&logits)?;
        let loss = ops::cross_entropy(&logits, &[target as i64], &CrossEntropyOptions::default())?.sum;

        let named = [
            ("keys", &self.keys),
            ("values", &self.values),
            ("wout", &self.wout),
            ("context", &zero_context),
            ("logits", &zero_logits),
        ];
        let named: Vec<_> = named.into_iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let mut gradients = Gradients::new(&named)?;
        ops::backward(&loss, &mut gradients)?;
        let gradient = |name| flat(of(&gradients, name)?);
        let pairs = |name| Ok::<_, Error>(gradient(name)?.chunks(2).map(<[f64]>::to_vec).collect::<Vec<_>>());
        let pass = Pass {
            scores: flat(&pattern.scores_bhts)?,
            weights: flat(&pattern.weights_bhts)?,
            context: flat(&context)?,
            logits: flat(&logits)?,
            probabilities: flat(&probabilities)?,
            loss: loss.to_scalar()?,
            gradients: GradientsOf {
                logits: gradient("logits")?,
                context: gradient("context")?,
                wout: pairs("wout")?,
                values: pairs("values")?,
                weights: self.by_weights(&pattern.weights_bhts, target)?,
                scores: pairs("keys")?.iter().map(|key| key[0]).collect(),
            },
        };
        self.gradients = Some(gradients);
        Ok(pass)
    }

    /// The derivative with respect to the weights: the pass from them on, with the weights themselves as the
    /// variable.
    fn by_weights(&self, weights: &Tensor, target: usize) -> Result<Vec<f64>, Error> {
        let weights = Var::from_tensor(&weights.detach().flatten_all()?.unsqueeze(0)?)?;
        let values_2s = self.values.as_detached_tensor().reshape(((), 2))?.t()?.contiguous()?;
        let context = ops::linear(&weights, &values_2s, None)?;
        let logits = ops::linear(&context, &self.wout.as_detached_tensor(), None)?;
        let loss = ops::cross_entropy(&logits, &[target as i64], &CrossEntropyOptions::default())?.sum;
        let mut gradients = Gradients::new(&[("weights".to_owned(), weights)])?;
        ops::backward(&loss, &mut gradients)?;
        flat(of(&gradients, "weights")?)
    }

    /// One step of gradient descent on scores, values and Wout, along the gradients of the last pass.
    pub(super) fn update(&mut self, lr: f64) -> Result<(), Error> {
        let step = SgdStep { lr, momentum: 0.0, weight_decay: 0.0, grad_scale: 1.0 };
        let Some(gradients) = self.gradients.take() else { return Ok(()) };
        for (name, var) in [("keys", &self.keys), ("values", &self.values), ("wout", &self.wout)] {
            let velocity = Var::zeros(var.dims(), DType::F64, &Device::Cpu)?;
            ops::sgd(var, &velocity, of(&gradients, name)?, &step)?;
        }
        Ok(())
    }
}

fn of<'a>(gradients: &'a Gradients, name: &str) -> Result<&'a Tensor, Error> {
    gradients.get(name).ok_or_else(|| Error::NoGradient(name.to_owned()))
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}
