//! Finds the first value that is not finite.

use candle_core::{DType, Tensor};
use vulpes_data::Batch;
use vulpes_model::{Pass, Probe, Site, Transformer};

use crate::error::Result;
use crate::shard::input;

/// Describes the first parameter, else the first intermediate value of the forward pass, that is not finite.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn first_not_finite(transformer: &Transformer, batches: &[Batch]) -> Result<Option<String>> {
    let transformer = transformer.without_gradients()?;
    for (name, var) in transformer.parameters().iter() {
        if !is_finite(var)? {
            return Ok(Some(format!("parameter `{name}`")));
        }
    }
    for (number, batch) in batches.iter().enumerate() {
        let mut finder = Finder::default();
        let mut pass = Pass::probed(&mut finder);
        let input = input(batch, transformer.device())?;
        let hidden = transformer.forward(&input, &mut pass)?;
        let logits = transformer.logits(&transformer.read_by_head(&hidden, &input)?, &mut pass)?;
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
        // Masked scores are minus infinity by intent, before the softmax.
        let by_intent = matches!(site, Site::Scores(_));
        if self.found.is_none() && !by_intent && is_finite(value).is_ok_and(|finite| !finite) {
            self.found = Some(site);
        }
    }
}

fn is_finite(value: &Tensor) -> candle_core::Result<bool> {
    Ok(value.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?.is_finite())
}
