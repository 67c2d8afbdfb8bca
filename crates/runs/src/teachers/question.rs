//! The question whose answer is traced to training rows.

use candle_core::DType;
use serde::Serialize;
use vulpes_data::{Batch, IGNORED};
use vulpes_model::{Head, Input, Pass, Transformer};

use crate::error::Result;

/// A text, the queried position, and an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The text's ids.
    pub ids: Vec<u32>,
    /// Which text of a pair each belongs to; empty where all have type 0.
    pub token_types: Vec<u32>,
    /// The queried position; unused for a classifier.
    pub position: usize,
    /// The token, or the label, that is the answer.
    pub answer: u32,
}

impl Question {
    /// The question as a training row.
    pub(super) fn batch(&self, head: Head) -> Batch {
        let mut targets = vec![IGNORED; if head.n_labels().is_some() { 1 } else { self.ids.len() }];
        let asked = self.position.min(targets.len() - 1);
        targets[asked] = i64::from(self.answer);
        Batch {
            rows: 1,
            len: self.ids.len(),
            ids: self.ids.clone(),
            targets,
            padding_mask: None,
            token_types: (!self.token_types.is_empty()).then(|| self.token_types.clone()),
            segments: None,
            positions: None,
            first_row: 0,
        }
    }

    /// The probability of the answer, with the softmax in float64.
    pub(super) fn probability(&self, transformer: &Transformer) -> Result<f64> {
        let model = transformer.without_gradients()?;
        let mut input = Input::new(&self.ids, 1, model.device())?;
        if !self.token_types.is_empty() {
            input = input.with_token_types(&self.token_types)?;
        }
        let hidden = model.forward(&input, &mut Pass::inference())?;
        let hidden = model.read_by_head(&hidden, &input)?;
        let logits = model.logits(&hidden, &mut Pass::inference())?;
        let logits = if logits.rank() == 3 { logits.squeeze(0)? } else { logits };
        let asked = self.position.min(logits.dim(0)? - 1);
        let logits: Vec<f64> = logits.get(asked)?.to_dtype(DType::F64)?.to_vec1()?;
        let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - greatest).exp()).sum();
        Ok(logits.get(self.answer as usize).map_or(0.0, |logit| (logit - greatest).exp() / sum))
    }
}
