//! The loss on the validation set, and how often the model's first choice is right where that is what is asked.

use candle_core::{DType, Tensor};
use rayon::ThreadPool;
use rayon::prelude::*;
use serde::Serialize;
use vulpes_collective::Processes;
use vulpes_data::{Batch, IGNORED, Scores};
use vulpes_model::{Head, Run, Transformer};
use vulpes_ops::CrossEntropyOptions;
use vulpes_ops::threads::{Precision, with_kernel_threads, with_precision};

use crate::error::{Result, agree};
use crate::shard::{input, scalar};

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
    /// [`Scores::macro_f1`], for labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Of pairs of texts, the share whose first text is nearer to its own second one than to any other of the validation
    /// set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_1: Option<f64>,
    /// The number of targets.
    pub n_targets: usize,
}

/// Sums over batches.
#[derive(Clone, Debug, Default)]
struct Sums {
    loss: f64,
    n_targets: usize,
    right: usize,
    /// The labels that were asked for and chosen; of none where no labels are asked for.
    labels: Scores,
}

impl Sums {
    /// Counts the model's first choice for one target.
    fn count(&mut self, target: i64, chosen: u32) {
        self.right += usize::from(target == i64::from(chosen));
        if let Ok(target) = usize::try_from(target) {
            self.labels.count(target, chosen as usize);
        }
    }

    /// Adds the whole numbers of other sums; losses are added by whoever knows their order.
    fn count_all(&mut self, other: &Self) {
        self.n_targets += other.n_targets;
        self.right += other.right;
        self.labels.add(&other.labels);
    }
}

impl Sums {
    /// The whole numbers of all processes together.
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

/// Evaluates `transformer` on `batches`, each batch on a thread of `pool` where there is one; of several processes each
/// takes every so manieth batch, and all have the result.
///
/// # Errors
/// When an operation fails.
pub fn evaluate(
    transformer: &Transformer,
    batches: impl Iterator<Item = vulpes_data::Result<Batch>>,
    pool: Option<&ThreadPool>,
    (kernel_threads, precision): (usize, Precision),
    processes: &Processes,
) -> Result<Evaluation> {
    let transformer = transformer.without_gradients()?;
    let head = transformer.config().head;
    let none = Sums { labels: Scores::new(head.n_labels().unwrap_or(0)), ..Sums::default() };
    let one = |batch: &Batch| {
        let run = || sums(&transformer, batch, none.clone());
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
        n_targets: total.n_targets,
    })
}

/// The loss of each of a process's batches, and the sums of all else.
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

/// Hands what `one` makes of each batch, on a thread of `pool` where there is one, to `each`, in the order of the batches,
/// whichever thread was first.
///
/// # Errors
/// When a batch can't be read, or `one` fails.
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

/// The sum of the losses of all batches, one after the other, of which each process has every so manieth.
fn in_order(own: &[f64], processes: &Processes) -> Result<f64> {
    let (size, n_own) = (processes.size(), own.len() as u64);
    let counts = processes.join(&[n_own as f64])?;
    let joined = processes.join(own)?;
    let starts: Vec<usize> =
        counts.iter().scan(0, |next, n| Some(std::mem::replace(next, *next + *n as usize))).collect();
    let ordered = (0..joined.len()).map(|at| joined[starts[at % size] + at / size]);
    Ok(ordered.fold(0.0, |sum, loss| sum + loss))
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
    let of_rows = transformer.config().head.n_labels().is_some();
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
