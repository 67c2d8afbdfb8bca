//! The loss on the validation set, and how often the model's first choice is right where that is what is asked.

use candle_core::{DType, Tensor};
use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;
use vulpes_data::{Batch, IGNORED};
use vulpes_model::{Head, Run, Transformer};
use vulpes_ops::CrossEntropyOptions;
use vulpes_ops::threads::with_kernel_threads;

use crate::Result;
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
    /// The number of targets.
    pub n_targets: usize,
}

/// Sums over one batch.
#[derive(Clone, Copy, Default)]
struct Sums {
    loss: f64,
    right: usize,
    n_targets: usize,
}

/// Evaluates `transformer` on `batches`, each batch on a thread of `pool` where there is one.
///
/// # Errors
/// When an operation fails.
pub fn evaluate(
    transformer: &Transformer,
    batches: impl Iterator<Item = Result<Batch>>,
    pool: Option<&ThreadPool>,
    kernel_threads: usize,
) -> Result<Evaluation> {
    let transformer = transformer.without_gradients()?;
    let asks_accuracy = !matches!(transformer.config().head, Head::NextToken);
    let one =
        |batch: &Batch| with_kernel_threads(kernel_threads, || sums(&transformer, batch, asks_accuracy));
    let mut total = Sums::default();
    let wave = pool.map_or(1, ThreadPool::current_num_threads);
    let mut batches = batches.peekable();
    while batches.peek().is_some() {
        let wave: Vec<Batch> = batches.by_ref().take(wave).collect::<Result<_>>()?;
        // The sums are added in the order of the batches, whichever thread was first.
        let found: Vec<candle_core::Result<Sums>> = match pool {
            Some(pool) => pool.install(|| wave.par_iter().map(one).collect()),
            None => wave.iter().map(one).collect(),
        };
        for sums in found {
            let sums = sums?;
            total.loss += sums.loss;
            total.right += sums.right;
            total.n_targets += sums.n_targets;
        }
    }
    let n = total.n_targets.max(1) as f64;
    let loss = total.loss / n;
    Ok(Evaluation {
        loss,
        perplexity: (!asks_accuracy).then(|| loss.exp()),
        accuracy: asks_accuracy.then_some(total.right as f64 / n),
        n_targets: total.n_targets,
    })
}

fn sums(transformer: &Transformer, batch: &Batch, asks_accuracy: bool) -> candle_core::Result<Sums> {
    if batch.n_targets() == 0 {
        return Ok(Sums::default());
    }
    let mut run = Run::inference();
    let hidden = transformer.forward(&input(batch, transformer.device())?, &mut run)?;
    let loss = transformer.loss(&hidden, &batch.targets, &CrossEntropyOptions::default(), &run)?;
    let right = if asks_accuracy { n_right(transformer, &hidden, &batch.targets)? } else { 0 };
    Ok(Sums { loss: scalar(&loss.sum)?, right, n_targets: loss.count })
}

/// How many targets are the model's first choice.
fn n_right(transformer: &Transformer, hidden: &Tensor, targets: &[i64]) -> candle_core::Result<usize> {
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
    Ok(asked
        .iter()
        .enumerate()
        .filter(|(place, i)| i64::from(chosen_at(*place, **i)) == targets[**i as usize])
        .count())
}
