//! The model's predictions at each token.

use serde::Serialize;
use vulpes_generate::NextToken;
use vulpes_model::Head;

use super::{Explanation, Subject, next_tokens};

/// The model's prediction at one token.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// The most likely outputs, largest first.
    pub next: Vec<NextToken>,
    /// `ln Σ exp(logit)`: a probability is `exp(logit − log_sum)`.
    pub log_sum: f64,
    /// The next token of the text, for a next-token model, except at the text's end.
    pub truth: Option<NextToken>,
}

/// The predictions at every token, `n` outputs each; a classifier has one for the entire text, a model without a head
/// none.
pub fn said(subject: &Subject, explanation: &Explanation, n: usize) -> Vec<Said> {
    if explanation.next.is_empty() {
        return Vec::new();
    }
    let continues = explanation.model.head == Head::NextToken;
    let row = |(t, logits): (usize, &Vec<f32>)| {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - f64::from(greatest)).exp()).sum();
        let log_sum = f64::from(greatest) + sum.ln();
        let truth = explanation.ids.get(t + 1).filter(|_| continues).and_then(|&id| {
            let logit = *logits.get(id as usize)?;
            let probability = (f64::from(logit) - log_sum).exp();
            Some(NextToken { id, text: subject.output(id), probability, logit })
        });
        Said { next: next_tokens(logits, n, &|id| subject.output(id)), log_sum, truth }
    };
    explanation.logits.iter().enumerate().map(row).collect()
}
