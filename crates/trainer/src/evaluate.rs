//! Validation loss, with accuracy, macro-F1 and recall@1 where they apply.

use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;
use vulpes_collective::Processes;
use vulpes_data::{Batch, LabelScores, Scores};
use vulpes_model::{Head, Model};
use vulpes_ops::threads::{Precision, with_kernel_threads, with_precision};

use crate::error::{Result, agree};
use crate::shard::{input, scalar};

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy over the targets, without label smoothing, in nats.
    pub loss: f64,
    /// `exp(loss)`, for the next token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// The accuracy, for masked tokens and labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// [`Scores::macro_f1`], for labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Recall@1 for pairs of texts: the fraction whose first text is closer to its own second text than to any other of
    /// the validation set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_1: Option<f64>,
    /// The scores of each label, by index.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<LabelScores>,
    /// The number of targets.
    pub n_targets: usize,
}

/// Sums over batches.
#[derive(Clone, Debug, Default)]
struct Sums {
    loss: f64,
    n_targets: usize,
    right: usize,
    /// The true and predicted labels; empty unless the model classifies.
    labels: Scores,
}

impl Sums {
    /// Counts the model's prediction for one target.
    fn count(&mut self, target: i64, chosen: u32) {
        self.right += usize::from(target == i64::from(chosen));
        if let Ok(target) = usize::try_from(target) {
            self.labels.count(target, chosen as usize);
        }
    }

    /// Adds the integer counts of other sums; losses are added by the caller, who knows their order.
    fn count_all(&mut self, other: &Self) {
        self.n_targets += other.n_targets;
        self.right += other.right;
        self.labels.add(&other.labels);
    }
}

impl Sums {
    /// The integer counts of all processes together.
    fn of_all(&self, processes: &Processes, mut total: Self) -> Result<Self> {
        if processes.is_alone() {
            return Ok(self.clone());
        }
        let said: Vec<u64> = [[self.n_targets, self.right, 0]]
            .into_iter()
            .chain(self.labels.rows())
            .flatten()
            .map(|n| n as u64)
            .collect();
        for said in processes.gather(bytemuck::cast_slice(&said))? {
            let numbers: Vec<usize> =
                said.chunks_exact(8).map(|n| bytemuck::pod_read_unaligned::<u64>(n) as usize).collect();
            for (at, &[a, b, n]) in numbers.as_chunks::<3>().0.iter().enumerate() {
                if at == 0 {
                    total.n_targets += a;
                    total.right += b;
                } else {
                    total.labels.count_rows([a, b, n]);
                }
            }
        }
        Ok(total)
    }
}

/// Evaluates `model` on `batches`, each batch on a thread of `pool` if there is one; several processes take turns with
/// the batches, and all have the result.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn evaluate<M: Model>(
    model: &M,
    batches: impl Iterator<Item = vulpes_data::Result<Batch>>,
    pool: Option<&ThreadPool>,
    (kernel_threads, precision): (usize, Precision),
    processes: &Processes,
) -> Result<Evaluation> {
    let model = model.with_trainable(&|_| false)?;
    let head = model.head();
    let none = Sums { labels: Scores::new(head.n_labels().unwrap_or(0)), ..Sums::default() };
    let one = |batch: &Batch| {
        let run = || sums(&model, batch, none.clone());
        with_kernel_threads(kernel_threads, || with_precision(precision, run))
    };
    let own_batches = batches.enumerate().filter(|(at, _)| at % processes.size() == processes.rank());
    let own = own_sums(own_batches.map(|(_, batch)| batch), one, pool, none.clone());
    let (losses, own) = agree(processes, own)?;
    let mut total = own.of_all(processes, none)?;
    total.loss = in_order(&losses, processes)?;
    let n = total.n_targets.max(1) as f64;
    let loss = total.loss / n;
    let asks_accuracy = asks_accuracy(head);
    Ok(Evaluation {
        loss,
        perplexity: (!asks_accuracy).then(|| loss.exp()),
        accuracy: asks_accuracy.then_some(total.right as f64 / n),
        macro_f1: total.labels.macro_f1(),
        recall_at_1: None,
        labels: total.labels.of_labels(),
        n_targets: total.n_targets,
    })
}

/// The loss of each of a process's batches, and the sums of everything else.
fn own_sums(
    batches: impl Iterator<Item = vulpes_data::Result<Batch>>,
    one: impl Fn(&Batch) -> candle_core::Result<Sums> + Sync,
    pool: Option<&ThreadPool>,
    mut total: Sums,
) -> Result<(Vec<f64>, Sums)> {
    let mut losses = Vec::new();
    each_in_order(batches, pool, &one, &mut |sums: Sums| {
        losses.push(sums.loss);
        total.count_all(&sums);
    })?;
    Ok((losses, total))
}

/// Applies `one` to each batch, on a thread of `pool` if there is one, and passes the results to `each` in the order of
/// the batches.
///
/// # Errors
/// Returns an error if a batch can't be read, or `one` fails.
pub(crate) fn each_in_order<T: Send>(
    batches: impl Iterator<Item = vulpes_data::Result<Batch>>,
    pool: Option<&ThreadPool>,
    one: &(dyn Fn(&Batch) -> candle_core::Result<T> + Sync),
    each: &mut dyn FnMut(T),
) -> Result<()> {
    let wave = pool.map_or(1, ThreadPool::current_num_threads);
    let mut batches = batches.peekable();
    while batches.peek().is_some() {
        let wave: Vec<Batch> = batches.by_ref().take(wave).collect::<vulpes_data::Result<_>>()?;
        let found: Vec<candle_core::Result<T>> = match pool {
            Some(pool) => pool.install(|| wave.par_iter().map(one).collect()),
            None => wave.iter().map(one).collect(),
        };
        for found in found {
            each(found?);
        }
    }
    Ok(())
}

/// The sum of the losses of all batches in order, which are distributed over the processes in turn.
fn in_order(own: &[f64], processes: &Processes) -> Result<f64> {
    let (size, n_own) = (processes.size(), own.len() as u64);
    let counts = processes.join(&[n_own as f64])?;
    let joined = processes.join(own)?;
    let starts: Vec<usize> =
        counts.iter().scan(0, |next, n| Some(std::mem::replace(next, *next + *n as usize))).collect();
    let ordered = (0..joined.len()).map(|at| joined[starts[at % size] + at / size]);
    Ok(ordered.fold(0.0, |sum, loss| sum + loss))
}

/// Whether accuracy is reported: for next tokens the perplexity is more informative.
fn asks_accuracy(head: Head) -> bool {
    head != Head::NextToken
}

/// The sums over one batch, added to `sums`.
fn sums<M: Model>(model: &M, batch: &Batch, mut sums: Sums) -> candle_core::Result<Sums> {
    if batch.n_targets() == 0 {
        return Ok(sums);
    }
    let (loss, likeliest) = model.evaluate_on(&input(batch, &model.device())?, &batch.targets)?;
    (sums.loss, sums.n_targets) = (scalar(&loss.sum)?, loss.count);
    likeliest.into_iter().for_each(|(target, chosen)| sums.count(target, chosen));
    Ok(sums)
}
