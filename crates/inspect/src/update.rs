//! One update: a single step of gradient descent on one prediction, and the prediction after it.

use candle_core::{DType, Tensor};
use serde::Serialize;
use vulpes_generate::NextToken;
use vulpes_model::{HeadLayer, Recorder, Transformer};

use crate::error::Error;
use crate::explanation::{Explanation, Subject, next_tokens, softmax};
use crate::gradients::{LossGradients, loss_gradients};

/// The learning rates that are tried, smallest first: 0.001 and its doubles, up to 16.384.
const RATES: std::ops::RangeInclusive<i32> = 0..=14;
/// The number of outputs listed before and after.
const LISTED: usize = 5;

/// One step of plain gradient descent on every parameter: `θ ← θ − η · ∂loss/∂θ`.
#[derive(Clone, Debug, Serialize)]
pub struct Update {
    /// The target, with its probability before the update.
    pub truth: NextToken,
    /// Whether the target was not named: the model's own answer can't teach it anything, so its second choice is
    /// used.
    pub is_supposed: bool,
    /// η: the smallest of 0.001, 0.002, 0.004, … with which the target becomes the model's answer; if it is the
    /// answer already, with which its loss is at most half; if none does, the one with the smallest loss.
    pub learning_rate: f64,
    /// Whether the rate achieves that goal.
    pub is_enough: bool,
    /// The loss of the target before and after, in nats.
    pub loss: [f64; 2],
    /// The most likely outputs before or after, in the order of before: each before and after the update.
    pub outputs: Vec<[NextToken; 2]>,
    /// The update of one parameter, the first of the target's row in the head's last matrix: before, gradient, after.
    pub one_number: [f64; 3],
}

impl Update {
    /// The reason for this learning rate.
    pub fn why(&self) -> &'static str {
        match (self.is_enough, self.outputs.first().is_some_and(|first| first[0].id == self.truth.id)) {
            (true, false) => "the smallest of 0.001 and its doubles that changes the answer",
            (true, true) => "the smallest of 0.001 and its doubles that halves the loss",
            (false, _) => "the one of 0.001 and its doubles with the smallest loss",
        }
    }
}

/// Updates `model` on one prediction, records its new predictions, and restores its parameters; `model` is the
/// subject's, with autograd. `target` is the named target; `known` are existing gradients, used if they are those of
/// the target. `None` for a model of one output, which can't be taught another.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn one_update(
    subject: &Subject,
    model: &Transformer,
    explanation: &Explanation,
    target: Option<u32>,
    known: Option<&LossGradients>,
) -> Result<Option<Update>, Error> {
    let asked = explanation.position.min(explanation.logits.len() - 1);
    let Some(truth) = target.or_else(|| explanation.next.get(1).map(|second| second.id)) else {
        return Ok(None);
    };
    let is_answer = |logits: &[f32]| logits.iter().all(|logit| *logit <= logits[truth as usize]);
    let before = &explanation.logits[asked];
    let own;
    let LossGradients { loss, gradients, .. } = match known.filter(|known| known.target == truth) {
        Some(known) => known,
        None => {
            own = loss_gradients(model, explanation, truth)?;
            &own
        }
    };
    let loss = *loss;
    let mut taught = Vec::new();
    for (name, gradient) in gradients.iter() {
        if let Some(gradient) = gradient {
            let var = model.parameters().get(name)?;
            taught.push((name, var, var.as_tensor().copy()?, gradient));
        }
    }
    let input = explanation.input(model)?;
    let tried = |rate: f64| -> Result<Vec<f32>, Error> {
        for (_, var, value, gradient) in &taught {
            var.set(&(value - gradient.affine(rate, 0.0)?)?)?;
        }
        let logits = Subject { model, ..*subject }.run(&input, &mut Recorder::of(&[]))?;
        Ok(logits[asked].clone())
    };
    let loss_of = |logits: &[f32]| -softmax(logits)[truth as usize].ln();
    let mut best: Option<(f64, Vec<f32>)> = None;
    let mut is_enough = false;
    for rate in RATES.map(|k| 0.001 * 2f64.powi(k)) {
        let logits = tried(rate)?;
        let after = loss_of(&logits);
        is_enough = if is_answer(before) { after <= loss / 2.0 } else { is_answer(&logits) };
        // NaN is never better.
        if is_enough || best.as_ref().is_none_or(|(_, least)| after < loss_of(least)) {
            best = Some((rate, logits));
        }
        if is_enough {
            break;
        }
    }
    for (_, var, value, _) in &taught {
        var.set(value)?;
    }
    let Some((learning_rate, after)) = best else { return Ok(None) };
    let name = head_matrix(model);
    let first = |tensor: &Tensor| -> Result<f64, Error> {
        Ok(tensor.get(truth as usize)?.get(0)?.to_dtype(DType::F64)?.to_scalar()?)
    };
    let Some((_, _, value, gradient)) = taught.iter().find(|(taught, ..)| *taught == name) else {
        return Ok(None);
    };
    let (value, gradient) = (first(value)?, first(gradient)?);
    Ok(Some(Update {
        truth: line(subject, before, truth),
        is_supposed: target.is_none(),
        learning_rate,
        is_enough,
        loss: [loss, loss_of(&after)],
        outputs: listed(before, &after)
            .into_iter()
            .map(|id| [line(subject, before, id), line(subject, &after, id)])
            .collect(),
        one_number: [value, gradient, value - learning_rate * gradient],
    }))
}

/// The name of the head's last matrix.
fn head_matrix(model: &Transformer) -> &'static str {
    match &model.layers().head {
        HeadLayer::Vocabulary { weight: Some(_), .. } => "head.weight",
        HeadLayer::Labels { .. } => "head.classifier.weight",
        HeadLayer::Vocabulary { weight: None, .. } | HeadLayer::Hidden { .. } => "embedding.token.weight",
    }
}

fn line(subject: &Subject, logits: &[f32], id: u32) -> NextToken {
    let (logit, probability) = (logits[id as usize], softmax(logits)[id as usize]);
    NextToken { id, text: subject.output(id), probability, logit }
}

/// The most likely outputs before, then those that became most likely after.
fn listed(before: &[f32], after: &[f32]) -> Vec<u32> {
    let likeliest = |logits: &[f32]| -> Vec<u32> {
        next_tokens(logits, LISTED, &|_| String::new()).into_iter().map(|next| next.id).collect()
    };
    let mut ids = likeliest(before);
    ids.extend(likeliest(after).into_iter().filter(|id| !likeliest(before).contains(id)));
    ids
}

#[cfg(test)]
mod tests {
    use vulpes_data::{Tokenizer, TokenizerConfig};
    use vulpes_model::config::Family;
    use vulpes_model::{Embedder, Head, ModelSection};

    use super::*;
    use crate::explanation::explain;

    fn with_model(family: Family, check: impl Fn(&Subject, &Transformer, &Explanation)) {
        let text = "The quick brown fox jumps over the lazy dog .";
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
        let section = ModelSection {
            family: Some(family),
            n_layer: Some(1),
            n_head: Some(2),
            d_model: Some(16),
            context_len: Some(8),
            ..ModelSection::default()
        };
        let config = section.resolve(tokenizer.vocab_size(), Head::NextToken);
        let model = Transformer::init(&config, 3, DType::F32, &candle_core::Device::Cpu).unwrap();
        let subject =
            Subject { model: &model, tokenizer: &tokenizer, labels: &[], embedder: Embedder::default() };
        let ids = tokenizer.encode("The quick brown fox").unwrap();
        let explanation = explain(&subject, &ids, &[]).unwrap();
        check(&subject, &model, &explanation);
    }

    #[test]
    fn an_update_changes_the_answer_and_restores_the_model() {
        for family in [Family::Fox, Family::Gpt2, Family::Llama] {
            with_model(family, |subject, model, explanation| {
                let update = one_update(subject, model, explanation, None, None).unwrap().unwrap();
                assert_eq!(update.truth.id, explanation.next[1].id);
                assert!(update.is_supposed && update.is_enough, "{family:?}");
                assert!(update.loss[1] < update.loss[0]);
                let best = |of: usize| {
                    let line = |pair: &[NextToken; 2]| (pair[of].probability, pair[of].id);
                    update.outputs.iter().map(line).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
                };
                assert_eq!((best(0), best(1)), (explanation.next[0].id, update.truth.id));
                // One parameter by hand, and the parameters are those of before.
                let [value, gradient, after] = update.one_number;
                assert!((value - update.learning_rate * gradient - after).abs() < 1e-12);
                let again = explain(subject, &explanation.ids, &[]).unwrap();
                assert_eq!(again.logits, explanation.logits);
            });
        }
    }

    #[test]
    fn updated_predictions_equal_those_of_the_page() {
        with_model(Family::Gpt2, |subject, model, explanation| {
            let target = explanation.next[3].id;
            let known = loss_gradients(model, explanation, target).unwrap();
            let other = loss_gradients(model, explanation, explanation.next[1].id).unwrap();
            let taught =
                |known| one_update(subject, model, explanation, Some(target), known).unwrap().unwrap();
            let update = taught(Some(&known));
            assert!(!update.is_supposed);
            // Existing gradients change nothing, and those of another target are not used.
            for known in [None, Some(&other)] {
                assert_eq!(
                    serde_json::to_value(taught(known)).unwrap(),
                    serde_json::to_value(&update).unwrap()
                );
            }
            // The same step, taken by hand.
            for (name, gradient) in known.gradients.iter() {
                let var = model.parameters().get(name).unwrap();
                let step = gradient.unwrap().affine(update.learning_rate, 0.0).unwrap();
                var.set(&(var.as_tensor() - step).unwrap()).unwrap();
            }
            let after = explain(subject, &explanation.ids, &[]).unwrap();
            assert_eq!(after.next[0].id, target);
            let logits = &after.logits[after.position];
            for [_, line] in &update.outputs {
                assert_eq!(line.logit, logits[line.id as usize]);
            }
            let table = model.parameters().get("embedding.token.weight").unwrap();
            let first: f32 = table.get(target as usize).unwrap().get(0).unwrap().to_scalar().unwrap();
            assert!((f64::from(first) - update.one_number[2]).abs() < 1e-6);
        });
    }
}
