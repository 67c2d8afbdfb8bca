//! The contrastive loss over pairs of texts, which depends on all rows of a step at once.
//!
//! shards embed their rows → the vectors of the step, in the order of its rows → one loss, and its gradient for each
//! vector → shards backpropagate through their rows from those. This is the exact gradient of the loss over the entire
//! step ([Gao et al. 2021](https://arxiv.org/abs/2101.06983)): neither shards nor micro-batches change the negatives of
//! a pair. If a step is one micro-batch, its tapes are kept from the first pass to the second; otherwise each row is
//! embedded again, with the same dropout, so that only one micro-batch at a time is in memory.

use candle_core::{Tensor, Var};
use rayon::ThreadPool;
use vulpes_data::Batch;
use vulpes_model::{Embedder, Model, Pass, contrastive, contrastive_no_grad};
use vulpes_ops::threads::{Precision, with_kernel_threads, with_precision};
use vulpes_ops::{Gradients, backward};

use crate::error::Result;
use crate::evaluate::{Evaluation, each_in_order};
use crate::shard::{Shard, Workers, input, scalar, shard_rows};

/// Pairs whose cosines with all others are in memory at once, in evaluation.
const AT_ONCE: usize = 256;

/// Options of the contrastive loss ([`contrastive`]).
///
/// Rows come in twos, the texts of a pair. The negatives are all other pairs of the step, across its shards and
/// micro-batches.
#[derive(Clone, Copy, Debug)]
pub struct Contrast {
    /// The pooling of a text's embedding.
    pub embedder: Embedder,
    /// The factor of the cosines.
    pub scale: f64,
}

impl Contrast {
    /// Adds the gradients of a step to those of its shards; returns the sum of its losses.
    pub(crate) fn run<M: Model>(
        &self,
        shard: &Shard<M>,
        batches: &[Batch],
        shards: &mut [Gradients],
        workers: &Workers,
    ) -> Result<f64> {
        let n = shards.len();
        let keeps_tapes = batches.len() == 1;
        let vectors = |index: usize, batch: &Batch| -> candle_core::Result<Option<Tensor>> {
            let part = batch.slice(shard_rows(batch.rows, index, n));
            if part.rows == 0 {
                return Ok(None);
            }
            let input = input(&part, &shard.model.device())?;
            let hidden = shard.model.hidden(&input, &mut shard.training(&part))?;
            self.embedder.embed(&hidden, &input).map(Some)
        };
        let embed = |index: usize, _: &mut Gradients| -> candle_core::Result<Vec<Option<Tensor>>> {
            let of_batch = |batch| {
                let found = vectors(index, batch)?;
                Ok(if keeps_tapes { found } else { found.map(|found| found.detach()) })
            };
            batches.iter().map(of_batch).collect()
        };
        let embedded = workers.on_each(shards, &embed)?;

        // The rows of the step in their order: a micro-batch's shards one after the other.
        let places = || (0..batches.len()).flat_map(|batch| (0..n).map(move |index| (index, batch)));
        let parts: Vec<Tensor> = places()
            .filter_map(|(index, batch)| embedded[index][batch].as_ref().map(Tensor::detach))
            .collect();
        let (sum, gradient) = workers.alone(|| self.loss(&Tensor::cat(&parts, 0)?, shard))?;
        let mut given = vec![vec![None; batches.len()]; n];
        let mut row = 0;
        for (index, batch) in places() {
            if let Some(part) = &embedded[index][batch] {
                let rows = part.dim(0)?;
                given[index][batch] = Some(gradient.narrow(0, row, rows)?);
                row += rows;
            }
        }

        let back = |index: usize, gradients: &mut Gradients| -> candle_core::Result<()> {
            for (number, batch) in batches.iter().enumerate() {
                let Some(given) = &given[index][number] else { continue };
                let kept = embedded[index][number].clone().filter(|_| keeps_tapes);
                let Some(found) = kept.map_or_else(|| vectors(index, batch), |kept| Ok(Some(kept)))? else {
                    continue;
                };
                // Its gradient for the vectors is `given`.
                backward(&(found * given)?.sum_all()?, gradients)?;
            }
            Ok(())
        };
        workers.on_each(shards, &back)?;
        Ok(sum)
    }

    /// The sum of the losses over a step's vectors, and the gradient of their mean.
    fn loss<M: Model>(&self, vectors_rd: &Tensor, shard: &Shard<M>) -> candle_core::Result<(f64, Tensor)> {
        let vectors_rd = Var::from_tensor(vectors_rd)?;
        let [first, second] = pairs(&vectors_rd)?;
        let loss = contrastive(&first, &second, 0, self.scale, &shard.options)?;
        let mut gradients = Gradients::new(&[("vectors".to_owned(), vectors_rd)])?;
        backward(&loss.sum.affine(1.0 / shard.divisor.n_targets as f64, 0.0)?, &mut gradients)?;
        match gradients.get("vectors") {
            Some(gradient) => Ok((scalar(&loss.sum)?, gradient.copy()?.detach())),
            None => candle_core::bail!("the contrastive loss has no gradient for the vectors"),
        }
    }

    /// The loss of the validation pairs, and how many rank their own second text first.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    pub(crate) fn evaluate<M: Model>(
        &self,
        model: &M,
        batches: impl Iterator<Item = vulpes_data::Result<Batch>>,
        pool: Option<&ThreadPool>,
        (kernel_threads, precision): (usize, Precision),
    ) -> Result<Evaluation> {
        let model = model.with_trainable(&|_| false)?;
        let one = |batch: &Batch| {
            let run = || {
                let input = input(batch, &model.device())?;
                let hidden = model.hidden(&input, &mut Pass::inference())?;
                self.embedder.embed(&hidden, &input)
            };
            with_kernel_threads(kernel_threads, || with_precision(precision, run))
        };
        let mut parts: Vec<Tensor> = Vec::new();
        each_in_order(batches, pool, &one, &mut |part| parts.push(part))?;
        let [first, second] = pairs(&Tensor::cat(&parts, 0)?)?;
        let n = first.dim(0)?;
        let (mut sum, mut right) = (0.0, 0);
        for start in (0..n).step_by(AT_ONCE) {
            let some = first.narrow(0, start, AT_ONCE.min(n - start))?;
            let (loss, found) = contrastive_no_grad(&some, &second, start, self.scale)?;
            sum += scalar(&loss.sum)?;
            right += found;
        }
        let share = |part: f64| part / n.max(1) as f64;
        Ok(Evaluation {
            loss: share(sum),
            perplexity: None,
            accuracy: None,
            macro_f1: None,
            labels: Vec::new(),
            recall_at_1: Some(share(right as f64)),
            n_targets: n,
        })
    }
}

/// The first and the second vectors of pairs: the even and the odd rows of `[2n, d]`, `[n, d]` each.
fn pairs(vectors_rd: &Tensor) -> candle_core::Result<[Tensor; 2]> {
    let (rows, d) = vectors_rd.dims2()?;
    let paired = vectors_rd.reshape((rows / 2, 2, d))?;
    let half = |number: usize| paired.narrow(1, number, 1)?.squeeze(1)?.contiguous();
    Ok([half(0)?, half(1)?])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use vulpes_collective::Processes;
    use vulpes_data::IGNORED;
    use vulpes_model::Transformer;
    use vulpes_model::config::Family;
    use vulpes_model::{Head, ModelSection, TextPooling};

    use super::*;
    use crate::optimizer::GradientDtype;
    use crate::step::{StepOptions, Stepper};

    /// `n` pairs of short texts, the first of which is pair `first` of the run.
    fn batch(first: u64, n: u64) -> Batch {
        let texts = first * 2..(first + n) * 2;
        let id = |text: u64, place: u64| ((text * 7 + place * 3) % 11) as u32;
        let len = |text: u64| 2 + text % 3;
        Batch {
            rows: 2 * n as usize,
            len: 4,
            ids: texts.clone().flat_map(|text| (0..4).map(move |place| id(text, place))).collect(),
            targets: texts.clone().map(|text| if text % 2 == 0 { 0 } else { IGNORED }).collect(),
            padding_mask: Some(
                texts.flat_map(|text| (0..4).map(move |place| u8::from(place < len(text)))).collect(),
            ),
            token_types: None,
            segments: None,
            positions: None,
            first_row: first * 2,
        }
    }

    fn model(dtype: DType) -> Transformer {
        let section = ModelSection {
            family: Some(Family::Bert),
            n_layer: Some(2),
            n_head: Some(2),
            d_model: Some(8),
            context_len: Some(4),
            dropout: Some(0.3),
            ..ModelSection::default()
        };
        let config = section.resolve(11, Head::Hidden { pooler: false });
        Transformer::init(&config, 5, dtype, &Device::Cpu).unwrap()
    }

    const CONTRAST: Contrast =
        Contrast { embedder: Embedder { pooling: TextPooling::Mean, normalize: true }, scale: 20.0 };

    fn options(n_shards: usize, n_threads: usize) -> StepOptions {
        let precision = Precision::Float32;
        let contrast = Some(CONTRAST);
        let (label_smoothing, recompute, processes) = (0.0, false, Processes::default());
        StepOptions {
            n_shards,
            n_threads,
            processes,
            label_smoothing,
            precision,
            recompute,
            gradient_dtype: GradientDtype::Full,
            seed: 3,
            contrast,
            undivided: Default::default(),
            class_weights: Vec::new(),
        }
    }

    /// Loss and every gradient of the second step, cut as given.
    fn step(model: &Transformer, batches: &[Batch], n_shards: usize, n_threads: usize) -> Vec<f64> {
        let mut stepper = Stepper::new(model, &|_| true, options(n_shards, n_threads)).unwrap();
        let (loss, _, gradients) = stepper.gradients(2, batches).unwrap();
        let all = gradients.iter().flat_map(|(name, gradient)| {
            let gradient = gradient.unwrap_or_else(|| panic!("{name} has no gradient"));
            gradient.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()
        });
        std::iter::once(loss.loss).chain(all).collect()
    }

    fn difference(a: &[f64], b: &[f64]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    /// The entire step on one tape, without shards.
    fn at_once(model: &Transformer, batch: &Batch) -> Vec<f64> {
        let names: Vec<(String, Var)> =
            model.parameters().iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let mut gradients = Gradients::new(&names).unwrap();
        let dropout = vulpes_random::Key::new(3, "dropout").with(&2u64);
        let input = input(batch, model.device()).unwrap();
        let hidden = model.forward(&input, &mut Pass::training(dropout, 0)).unwrap();
        let [a, b] = pairs(&CONTRAST.embedder.embed(&hidden, &input).unwrap()).unwrap();
        let loss =
            contrastive(&a, &b, 0, CONTRAST.scale, &vulpes_ops::CrossEntropyOptions::default()).unwrap();
        let mean = loss.mean().unwrap();
        backward(&mean, &mut gradients).unwrap();
        let all = gradients
            .iter()
            .flat_map(|(_, gradient)| gradient.unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap());
        std::iter::once(mean.to_scalar::<f64>().unwrap()).chain(all).collect()
    }

    #[test]
    fn all_other_pairs_of_a_step_are_negatives_however_it_is_cut() {
        let model = model(DType::F64);
        let whole = at_once(&model, &batch(6, 6));
        for n_shards in [1, 2, 3, 5] {
            let off = difference(&step(&model, &[batch(6, 6)], n_shards, 1), &whole);
            assert!(off < 1e-12, "{n_shards} shards: {off}");
            let parts = [batch(6, 2), batch(8, 2), batch(10, 2)];
            let off = difference(&step(&model, &parts, n_shards, 1), &whole);
            assert!(off < 1e-12, "{n_shards} shards, three micro-batches: {off}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_the_bits() {
        let model = model(DType::F32);
        for batches in [vec![batch(0, 7)], vec![batch(0, 4), batch(4, 3)]] {
            let one = step(&model, &batches, 3, 1);
            for n_threads in [2, 3, 5] {
                assert_eq!(step(&model, &batches, 3, n_threads), one, "{n_threads} threads");
            }
        }
    }

    #[test]
    fn evaluation_is_over_all_pairs_however_they_are_batched() {
        let model = model(DType::F64);
        let found = |cut: &[(u64, u64)]| {
            let batches = cut.iter().map(|(first, n)| Ok(batch(*first, *n)));
            CONTRAST.evaluate(&model, batches, None, (1, Precision::Float32)).unwrap()
        };
        let (whole, parts) = (found(&[(0, 5)]), found(&[(0, 2), (2, 2), (4, 1)]));
        assert!((whole.loss - parts.loss).abs() < 1e-12);
        assert_eq!((whole.recall_at_1, whole.n_targets), (parts.recall_at_1, 5));
    }

    #[test]
    fn pairs_of_several_processes_are_refused() {
        for processes in vulpes_collective::threads(2) {
            let options = StepOptions { processes, ..options(1, 1) };
            let error = Stepper::new(&model(DType::F32), &|_| true, options).err().unwrap().to_string();
            assert!(error.contains("2 processes"), "{error}");
        }
    }
}
