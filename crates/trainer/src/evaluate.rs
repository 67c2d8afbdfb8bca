//! The loss on the validation set, and how often the model's first choice is right where that is what is asked.

use candle_core::{DType, Tensor};
use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;
use vulpes_data::{Batch, IGNORED};
use vulpes_model::{Head, Run, Transformer};
use vulpes_ops::CrossEntropyOptions;
use vulpes_ops::threads::{Precision, with_kernel_threads, with_precision};

use crate::error::Result;
use crate::step::{input, scalar};

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy over the targets, without label smoothing, in nats.
    pub loss: f64,
    /// `exp(loss)`, for the next token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// The share of targets that are the model's first choice, for masked tokens and labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The mean over the labels of F1, the harmonic mean of precision and recall, for labels; labels that are neither
    /// asked for nor chosen are left out ([van Rijsbergen 1979](https://www.dcs.gla.ac.uk/Keith/Preface.html), ch. 7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// The number of targets.
    pub n_targets: usize,
}

/// Sums over batches.
#[derive(Clone, Debug, Default)]
struct Sums {
    loss: f64,
    n_targets: usize,
    right: usize,
    /// For each label how often it was asked for, chosen, and both; empty where no labels are asked for.
    labels: Vec<LabelCounts>,
}

/// How often a label was asked for, how often chosen, and how often both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LabelCounts {
    asked: usize,
    chosen: usize,
    both: usize,
}

impl Sums {
    /// Counts the model's first choice for one target.
    fn count(&mut self, target: i64, chosen: u32) {
        let is_right = target == i64::from(chosen);
        self.right += usize::from(is_right);
        if let Some(label) = usize::try_from(target).ok().and_then(|label| self.labels.get_mut(label)) {
            label.asked += 1;
            label.both += usize::from(is_right);
        }
        if let Some(label) = self.labels.get_mut(chosen as usize) {
            label.chosen += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.n_targets += other.n_targets;
        self.right += other.right;
        for (sum, one) in self.labels.iter_mut().zip(&other.labels) {
            sum.asked += one.asked;
            sum.chosen += one.chosen;
            sum.both += one.both;
        }
    }

    /// `mean 2 both / (asked + chosen)` over the labels that were asked for or chosen.
    fn macro_f1(&self) -> Option<f64> {
        let seen = self.labels.iter().filter(|label| label.asked + label.chosen > 0);
        let scores: Vec<f64> =
            seen.map(|label| 2.0 * label.both as f64 / (label.asked + label.chosen) as f64).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// Evaluates `transformer` on `batches`, each batch on a thread of `pool` where there is one.
///
/// # Errors
/// When an operation fails.
pub fn evaluate(
    transformer: &Transformer,
    batches: impl Iterator<Item = vulpes_data::Result<Batch>>,
    pool: Option<&ThreadPool>,
    (kernel_threads, precision): (usize, Precision),
) -> Result<Evaluation> {
    let transformer = transformer.without_gradients()?;
    let head = transformer.config().head;
    let none = match head {
        Head::Classify { n_labels } => {
            Sums { labels: vec![LabelCounts::default(); n_labels], ..Sums::default() }
        }
        _ => Sums::default(),
    };
    let one = |batch: &Batch| {
        let run = || sums(&transformer, batch, none.clone());
        with_kernel_threads(kernel_threads, || with_precision(precision, run))
    };
    let mut total = none.clone();
    let wave = pool.map_or(1, ThreadPool::current_num_threads);
    let mut batches = batches.peekable();
    while batches.peek().is_some() {
        let wave: Vec<Batch> = batches.by_ref().take(wave).collect::<vulpes_data::Result<_>>()?;
        // The sums are added in the order of the batches, whichever thread was first.
        let found: Vec<candle_core::Result<Sums>> = match pool {
            Some(pool) => pool.install(|| wave.par_iter().map(one).collect()),
            None => wave.iter().map(one).collect(),
        };
        for sums in found {
            total.add(&sums?);
        }
    }
    let n = total.n_targets.max(1) as f64;
    let loss = total.loss / n;
    let asks_accuracy = asks_accuracy(head);
    Ok(Evaluation {
        loss,
        perplexity: (!asks_accuracy).then(|| loss.exp()),
        accuracy: asks_accuracy.then_some(total.right as f64 / n),
        macro_f1: total.macro_f1(),
        n_targets: total.n_targets,
    })
}

/// Whether the share of right first choices says something: of next tokens the perplexity says more.
fn asks_accuracy(head: Head) -> bool {
    head != Head::NextToken
}

/// The sums over one batch, begun as `sums`.
fn sums(transformer: &Transformer, batch: &Batch, mut sums: Sums) -> candle_core::Result<Sums> {
    if batch.n_targets() == 0 {
        return Ok(sums);
    }
    let mut run = Run::inference();
    let input = input(batch, transformer.device())?;
    let hidden = transformer.forward(&input, &mut run)?;
    let hidden = transformer.read_by_head(&hidden, &input)?;
    let loss = transformer.loss(&hidden, &batch.targets, &CrossEntropyOptions::default(), &run)?;
    (sums.loss, sums.n_targets) = (scalar(&loss.sum)?, loss.count);
    if asks_accuracy(transformer.config().head) {
        for (target, chosen) in first_choices(transformer, &hidden, &batch.targets)? {
            sums.count(target, chosen);
        }
    }
    Ok(sums)
}

/// Each target with the model's first choice.
fn first_choices(
    transformer: &Transformer,
    hidden: &Tensor,
    targets: &[i64],
) -> candle_core::Result<Vec<(i64, u32)>> {
    let asked: Vec<u32> = (0..targets.len()).filter(|i| targets[*i] != IGNORED).map(|i| i as u32).collect();
    let (b, t, d) = hidden.dims3()?;
    let of_rows = matches!(transformer.config().head, Head::Classify { .. });
    let hidden = if of_rows {
        hidden.clone()
    } else {
        // Logits are wanted at the masked places only.
        let index = Tensor::from_slice(&asked, asked.len(), hidden.device())?;
        hidden.reshape((b * t, d))?.index_select(&index, 0)?.unsqueeze(0)?
    };
    let logits = transformer.logits(&hidden, &mut Run::inference())?;
    let chosen =
        logits.to_dtype(DType::F32)?.argmax(candle_core::D::Minus1)?.flatten_all()?.to_vec1::<u32>()?;
    let chosen_at = |place: usize, i: u32| if of_rows { chosen[i as usize] } else { chosen[place] };
    Ok(asked.iter().enumerate().map(|(place, i)| (targets[*i as usize], chosen_at(place, *i))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second example of scikit-learn's `f1_score` has 0.26…: labels [0, 1, 2, 0, 1, 2], choices [0, 2, 1, 0, 0, 1].
    #[test]
    fn macro_f1_is_the_mean_over_the_labels_that_were_seen() {
        let counted = |pairs: &[(i64, u32)], n_labels: usize| {
            let mut sums = Sums { labels: vec![LabelCounts::default(); n_labels], ..Sums::default() };
            let mut halves = [sums.clone(), sums.clone()];
            pairs.iter().enumerate().for_each(|(i, (target, chosen))| halves[i % 2].count(*target, *chosen));
            halves.iter().for_each(|half| sums.add(half));
            (sums.right, sums.macro_f1())
        };
        let pairs = [(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1)];
        let (right, f1) = counted(&pairs, 3);
        assert_eq!(right, 2);
        assert!((f1.unwrap() - 0.8 / 3.0).abs() < 1e-12);
        assert_eq!(counted(&pairs, 5).1, f1, "labels that nobody saw count for nothing");
        assert_eq!(counted(&[(1, 1), (0, 0)], 2), (2, Some(1.0)));
        assert_eq!(counted(&[(1, 1)], 0).1, None);
    }
}
