//! The gradient census: before the first update, every trainable parameter must have a true gradient.
//!
//! Some operations of candle-nn give results without a backward. A model that uses one trains on with frozen layers
//! and no error; here it is refused, and the parameters are named.

use candle_core::Tensor;
use vulpes_ops::Gradients;

use crate::{Error, Result};

/// What the census found of one parameter.
enum Finding {
    Severed,
    NotFinite,
    Zero,
}

/// Parameters whose true gradient is zero: softmax doesn't change when all scores of a row move by the same amount,
/// and that is all that a key's bias does where positions don't rotate.
fn may_be_zero(name: &str) -> bool {
    name.ends_with(".key.bias")
}

/// Refuses gradients of which one is absent or not finite, or zero throughout where it can't be.
///
/// Single rows may be zero: those of tokens and positions that the batch doesn't hold. So may a whole tensor of
/// token types or positions whose only used row cancels; a weight that is zero throughout is reported only where
/// `strict` is set.
///
/// # Errors
/// [`Error::Census`], naming every such parameter.
pub fn census(gradients: &Gradients, strict: bool) -> Result<()> {
    let mut severed = Vec::new();
    let mut wrong = Vec::new();
    for (name, gradient) in gradients.iter() {
        match examine(gradient)? {
            Some(Finding::Severed) => severed.push(name),
            Some(Finding::NotFinite) => wrong.push(format!("`{name}` has a gradient that is not finite")),
            Some(Finding::Zero) if strict && !may_be_zero(name) => {
                wrong.push(format!("`{name}` has a gradient of zeros only"));
            }
            _ => {}
        }
    }
    if !severed.is_empty() {
        let names: Vec<String> = severed.iter().map(|name| format!("`{name}`")).collect();
        wrong.insert(
            0,
            format!(
                "no gradient reaches {}: an operation between {} and the loss has no backward; \
                 to keep a parameter as it is, name it in train.freeze",
                names.join(", "),
                if names.len() == 1 { "it" } else { "them" },
            ),
        );
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Census(format!("gradient census, before the first update: {}", wrong.join("; "))))
}

/// The parameters whose gradient is absent or not finite: one cheap look a parameter, for a step gone wrong.
pub(crate) fn not_finite(gradients: &Gradients) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, gradient) in gradients.iter() {
        if matches!(examine(gradient)?, Some(Finding::NotFinite)) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn examine(gradient: Option<&Tensor>) -> Result<Option<Finding>> {
    let Some(gradient) = gradient else { return Ok(Some(Finding::Severed)) };
    let greatest = gradient.abs()?.flatten_all()?.to_dtype(candle_core::DType::F64)?;
    // `max` may pass over NaN; a sum can't.
    let sum = greatest.sum_all()?.to_scalar::<f64>()?;
    Ok(if !sum.is_finite() {
        Some(Finding::NotFinite)
    } else if sum == 0.0 {
        Some(Finding::Zero)
    } else {
        None
    })
}
