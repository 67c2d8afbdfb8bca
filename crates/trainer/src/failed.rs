//! A step whose numbers went wrong: what is wrong, and where it shows first.

use candle_core::{DType, Tensor};
use vulpes_data::Batch;
use vulpes_model::{Probe, Run, Site, Transformer};

use crate::error::Result;
use crate::shard::input;

/// A step that must not be applied. Nothing of the training has changed.
#[derive(Clone, Debug)]
pub struct FailedStep {
    /// What is wrong, in words.
    pub words: String,
    /// Parameters whose gradient is not finite.
    pub parameters: Vec<String>,
}

impl FailedStep {
    /// A step whose loss or gradients, those of `parameters`, are not finite.
    pub(crate) fn not_finite(step: u64, loss: f64, norm: f64, parameters: Vec<String>) -> Self {
        let named = match parameters.as_slice() {
            [] => String::new(),
            [one] => format!("; the gradient of `{one}` is not finite"),
            [first, rest @ ..] => {
                format!("; the gradients of `{first}` and {} other parameters are not finite", rest.len())
            }
        };
        let words =
            format!("step {step}: loss {loss}, gradient norm {norm}: not finite, and not applied{named}");
        Self { words, parameters }
    }

    /// A step whose loss is more than `factor` times the running `mean`.
    pub(crate) fn leap(step: u64, loss: f64, factor: f64, mean: f64) -> Self {
        let words = format!(
            "step {step}: the loss leapt to {loss:.4}, more than {factor} times the running mean {mean:.4}"
        );
        Self { words, parameters: Vec::new() }
    }
}

/// The first parameter, else the first intermediate value of the forward pass, that is not finite, in words.
///
/// # Errors
/// When an operation fails.
pub fn first_not_finite(transformer: &Transformer, batches: &[Batch]) -> Result<Option<String>> {
    let transformer = transformer.without_gradients()?;
    for (name, var) in transformer.parameters().iter() {
        if !is_finite(var)? {
            return Ok(Some(format!("parameter `{name}`")));
        }
    }
    for (number, batch) in batches.iter().enumerate() {
        let mut finder = Finder::default();
        let mut run = Run::probed(&mut finder);
        let input = input(batch, transformer.device())?;
        let hidden = transformer.forward(&input, &mut run)?;
        let logits = transformer.logits(&transformer.read_by_head(&hidden, &input)?, &mut run)?;
        if let Some(site) = finder.found {
            return Ok(Some(format!("{site:?} in the forward pass of micro-batch {number}")));
        }
        if !is_finite(&logits)? {
            return Ok(Some(format!("the logits of micro-batch {number}")));
        }
    }
    Ok(None)
}

/// A probe that keeps the first site whose value is not finite.
#[derive(Default)]
struct Finder {
    found: Option<Site>,
}

impl Probe for Finder {
    fn wants(&self, _: Site) -> bool {
        self.found.is_none()
    }

    fn record(&mut self, site: Site, value: &Tensor) {
        // Masked scores are minus infinity by intent, before the softmax that takes them away.
        let by_intent = matches!(site, Site::Scores(_));
        if self.found.is_none() && !by_intent && is_finite(value).is_ok_and(|finite| !finite) {
            self.found = Some(site);
        }
    }
}

fn is_finite(value: &Tensor) -> candle_core::Result<bool> {
    Ok(value.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?.is_finite())
}
