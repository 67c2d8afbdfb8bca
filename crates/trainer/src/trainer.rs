//! A training with its data as an iterator of steps, for custom programs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::Tensor;
use vulpes_collective::Processes;
use vulpes_data::{Batch, Batches, Dataset, Rank};
use vulpes_model::{Model, Transformer};
use vulpes_ops::threads::{Precision, n_cores};

use crate::error::Result;
use crate::evaluate::Evaluation;
use crate::optimizer::{GradientDtype, OptimizerConfig};
use crate::schedule::{Schedule, ScheduleConfig};
use crate::spike::{OnSpike, SpikeRule};
use crate::state::State;
use crate::step::default_shards;
use crate::training::{StepNumbers, Training, TrainingOptions};

/// Options of a [`Trainer`]; the defaults are those of the `train` program.
#[derive(Clone, Debug)]
pub struct TrainerOptions {
    /// Optimizer steps of the training.
    pub steps: u64,
    /// Rows per micro-batch.
    pub batch_rows: usize,
    /// Micro-batches per step.
    pub accumulate: usize,
    /// How a gradient becomes an update.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes over the steps.
    pub schedule: ScheduleConfig,
    /// Decay of the exponential moving average of the weights; the average is then evaluated and saved.
    pub average: Option<f64>,
    /// The frozen parameters.
    pub frozen: BTreeSet<String>,
    /// The probability mass spread over all classes.
    pub label_smoothing: f64,
    /// The precision of the factors of matrix products.
    pub precision: Precision,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// Shards per micro-batch; 0 = by its size ([`default_shards`]).
    pub shards: usize,
    /// Threads; the results are bit-identical for any number; 0 = one per core.
    pub threads: usize,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_rows: 8,
            accumulate: 1,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            average: None,
            frozen: BTreeSet::new(),
            label_smoothing: 0.0,
            precision: Precision::Float32,
            seed: 1,
            shards: 0,
            threads: 0,
        }
    }
}

/// Model, optimizer, counters and rows. As an iterator it runs steps up to [`TrainerOptions::steps`]; after an error it
/// ends.
///
/// Every step is that of the `train` program: in shards, with the gradient census before the first update, dropout
/// keyed by row, bit-identical on any number of threads.
pub struct Trainer<M = Transformer> {
    training: Training<M>,
    batches: Batches,
    dataset: Arc<Dataset>,
    options: TrainerOptions,
    has_failed: bool,
}

impl<M: Model> Trainer<M> {
    /// A training before its first step.
    ///
    /// # Errors
    /// Returns an error if the device has no memory left, or the threads can't be started.
    pub fn new(model: &M, dataset: impl Into<Arc<Dataset>>, options: TrainerOptions) -> Result<Self> {
        let dataset = dataset.into();
        let options = TrainerOptions { batch_rows: options.batch_rows.max(1), ..options };
        let TrainerOptions { batch_rows: rows, label_smoothing, precision, seed, .. } = options;
        let numel = model.parameters().numel();
        let len = model.context_len().min(dataset.longest_row());
        let n_shards = match options.shards {
            0 => default_shards(rows, len, numel, &model.device()),
            n => n,
        };
        let n_threads = match options.threads {
            0 => n_cores(),
            n => n,
        };
        let training = TrainingOptions {
            schedule: Schedule::new(&options.schedule, options.optimizer.lr, options.steps),
            optimizer: options.optimizer.clone(),
            average: options.average,
            frozen: options.frozen.clone(),
            spike: SpikeRule { then: OnSpike::Keep, factor: f64::INFINITY, after: 0 },
            label_smoothing,
            n_shards,
            n_threads,
            processes: Processes::default(),
            precision,
            recompute: false,
            gradient_dtype: GradientDtype::Full,
            seed,
            contrast: None,
            class_weights: Vec::new(),
        };
        let training = Training::new(model, training, State::start())?;
        let batches = Batches::new(dataset.clone(), training.state.cursor, rows, Rank::default());
        Ok(Self { training, batches, dataset, options, has_failed: false })
    }

    /// The model after the steps so far.
    pub fn model(&self) -> &M {
        self.training.model()
    }

    /// The rows.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Model, optimizer and counters.
    pub fn training(&self) -> &Training<M> {
        &self.training
    }

    /// The number of the last completed step.
    pub fn step(&self) -> u64 {
        self.training.state.step
    }

    /// The loss on the validation rows, and the other scores where they apply.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    pub fn evaluate(&self) -> Result<Evaluation> {
        self.training.evaluate(self.dataset.validation_batches(self.options.batch_rows))
    }

    /// The complete state for [`Trainer::restore`]: counters with their digest, and every tensor by name.
    ///
    /// # Errors
    /// Returns an error if a tensor can't be read back from its device.
    pub fn saved(&self) -> Result<(State, BTreeMap<String, Tensor>)> {
        let tensors = self.training.tensors()?;
        let digest = self.training.state.digest_with(&tensors)?;
        Ok((State { digest, ..self.training.state.clone() }, tensors))
    }

    /// Restores a saved state: counters, and tensors as returned by [`Training::tensors`].
    ///
    /// # Errors
    /// Returns an error that names a missing tensor or one of another shape; the model may then be partially restored.
    pub fn restore(&mut self, state: State, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        self.training.restore(state, tensors)?;
        let cursor = self.training.state.cursor;
        self.batches = Batches::new(self.dataset.clone(), cursor, self.options.batch_rows, Rank::default());
        self.has_failed = false;
        Ok(())
    }

    fn advance(&mut self) -> Result<StepNumbers> {
        let next = || self.batches.next_batch();
        let micro = std::iter::repeat_with(next).take(self.options.accumulate.max(1));
        let micro: Vec<Batch> = micro.collect::<vulpes_data::Result<_>>()?;
        let numbers = self.training.advance(&micro)?;
        self.training.state.cursor = self.batches.cursor();
        Ok(numbers)
    }
}

impl<M: Model> Iterator for Trainer<M> {
    type Item = Result<StepNumbers>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.step() >= self.options.steps {
            return None;
        }
        let done = self.advance();
        self.has_failed = done.is_err();
        Some(done)
    }
}
