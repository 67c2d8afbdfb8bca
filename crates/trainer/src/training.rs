//! A model that learns: what advances it by one step, and all that the next step hangs on.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use vulpes_collective::Processes;
use vulpes_data::Batch;
use vulpes_model::{ParameterSpec, Transformer, parameter_specs};
use vulpes_ops::threads::{Precision, with_kernel_threads};

use crate::census::census;
use crate::contrast::Contrast;
use crate::error::{Error, Result, agree};
use crate::evaluate::{Evaluation, evaluate};
use crate::failed::FailedStep;
use crate::optimizer::{Optimizer, OptimizerConfig};
use crate::schedule::Schedule;
use crate::spike::{OnSpike, SpikeRule};
use crate::state::State;
use crate::step::{StepLoss, StepOptions, Stepper};

/// What decides a training beside its model and its rows.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// How a gradient becomes an update.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// The parameters that stay as they are.
    pub frozen: BTreeSet<String>,
    /// What a leap of the loss is, and what it does.
    pub spike: SpikeRule,
    /// The probability mass that is spread over all classes ([`vulpes_ops::CrossEntropyOptions`]).
    pub label_smoothing: f64,
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads; any number gives the same bits.
    pub n_threads: usize,
    /// The processes that train together; any number gives the same bits.
    pub processes: Processes,
    /// What the factors of the projections' matrix products are rounded to, in training and in evaluation.
    pub precision: Precision,
    /// Whether the inside of each block is computed again in the backward pass instead of kept: less memory, the same bits.
    pub recompute: bool,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// For pairs of texts that are told from the others of the step.
    pub contrast: Option<Contrast>,
}

/// Model, optimizer and counters.
pub struct Training {
    options: TrainingOptions,
    stepper: Stepper,
    optimizer: Optimizer,
    /// Counters and cursor.
    pub state: State,
    /// Every parameter's name until the census has been held.
    to_count: Option<Vec<String>>,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// Loss and counts.
    pub loss: StepLoss,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Whether the update was dropped because the loss leapt.
    pub skipped: bool,
}

impl Training {
    /// A training that goes on from `state`, its optimizer fresh.
    ///
    /// # Errors
    /// Returns an error if the device has no room, or the threads can't be started.
    pub fn new(transformer: &Transformer, options: TrainingOptions, state: State) -> Result<Self> {
        let trainable = |name: &str| !options.frozen.contains(name);
        let stepper = Stepper::new(
            transformer,
            &trainable,
            StepOptions {
                n_shards: options.n_shards,
                n_threads: options.n_threads,
                processes: options.processes.clone(),
                label_smoothing: options.label_smoothing,
                precision: options.precision,
                recompute: options.recompute,
                seed: options.seed,
                contrast: options.contrast,
            },
        )?;
        let specs = parameter_specs(transformer.config());
        let own = |spec: &ParameterSpec| stepper.slices().own(&spec.name);
        let optimizer = Optimizer::new(
            &options.optimizer,
            &specs,
            transformer.parameters(),
            &trainable,
            &own,
            options.seed,
        )?;
        let to_count = Some(specs.into_iter().map(|spec| spec.name).collect());
        Ok(Self { options, stepper, optimizer, state, to_count })
    }

    /// The model.
    pub fn transformer(&self) -> &Transformer {
        self.stepper.transformer()
    }

    /// Does the next step on `batches`: gradients, census at the first, checks, update, counters (all but the cursor).
    ///
    /// # Errors
    /// When an operation fails or the census refuses. `Ok(Err(FailedStep))` when the numbers are such that the step
    /// must not be applied; then nothing has changed.
    pub fn advance(&mut self, batches: &[Batch]) -> Result<std::result::Result<StepNumbers, FailedStep>> {
        match self.stepper.pool() {
            Some(pool) => pool.install(|| self.advance_here(batches)),
            None => self.advance_here(batches),
        }
    }

    fn advance_here(&mut self, batches: &[Batch]) -> Result<std::result::Result<StepNumbers, FailedStep>> {
        let step = self.state.step + 1;
        let (loss, norm, gradients) = self.stepper.gradients(step, batches)?;
        if !loss.loss.is_finite() || !norm.is_finite() {
            let own = gradients.not_finite().map_err(Error::from);
            let own = own.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<String>>());
            let own = agree(&self.options.processes, own)?;
            let parameters = self.stepper.slices().any_of(&own)?;
            return Ok(Err(FailedStep::not_finite(step, loss.loss, norm, parameters)));
        }
        if let Some(all) = &self.to_count {
            census(gradients, all.iter().map(String::as_str), &self.options.frozen)?;
            self.to_count = None;
        }
        let rule = &self.options.spike;
        let mut spike = self.state.spike;
        let leapt = spike.is_leap(loss.loss, rule);
        if leapt && rule.then == OnSpike::Stop {
            return Ok(Err(FailedStep::leap(step, loss.loss, rule.factor, spike.corrected())));
        }
        let skipped = leapt && rule.then == OnSpike::Skip;
        let lr = self.options.schedule.lr(step);
        if !skipped {
            let clip = self.options.optimizer.clip;
            let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
            with_kernel_threads(self.options.n_threads, || self.optimizer.step(gradients, lr, scale))?;
            self.stepper.slices().share()?;
        }
        let state = &mut self.state;
        state.step = step;
        state.spike = spike;
        state.tokens += loss.n_tokens as u64;
        state.skipped_steps += u64::from(skipped);
        state.updates = self.optimizer.updates();
        state.val_loss = None;
        state.chain(loss.loss, norm);
        Ok(Ok(StepNumbers { loss, grad_norm: norm, lr, skipped }))
    }

    /// Evaluates the model on `batches`, on the threads of the training; several processes share them.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn evaluate(&self, batches: impl Iterator<Item = vulpes_data::Result<Batch>>) -> Result<Evaluation> {
        let (pool, kernel_threads) = self.stepper.side_by_side();
        let how = (kernel_threads, self.options.precision);
        match &self.options.contrast {
            None => evaluate(self.transformer(), batches, pool, how, &self.options.processes),
            Some(contrast) => contrast.evaluate(self.transformer(), batches, pool, how),
        }
    }

    /// The processes that train together.
    pub fn processes(&self) -> &Processes {
        self.stepper.processes()
    }

    /// The optimizer's tensors by name ([`Optimizer::state`]), whole, on the first process; none on the others, which
    /// send it what they have.
    ///
    /// # Errors
    /// When a process has ended, or a tensor can't be read back from its device.
    pub fn optimizer_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        match self.processes().is_alone() {
            true => Ok(self.optimizer.state()),
            false => self.optimizer.collect(self.stepper.slices()),
        }
    }

    /// Elements of the optimizer's state that this process keeps.
    pub fn optimizer_numel(&self) -> usize {
        self.optimizer.numel()
    }

    /// Takes the optimizer's saved tensors over, or the part of them that this process owns; the counters are those of the
    /// state already.
    ///
    /// # Errors
    /// As [`Optimizer::set_state`].
    pub fn set_optimizer_tensors(
        &mut self,
        tensors: &BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), String> {
        self.optimizer.set_state(tensors, self.state.updates)
    }

    /// The parameters by name, as `param.NAME`.
    pub fn parameter_tensors(&self) -> BTreeMap<String, Tensor> {
        let parameters = self.transformer().parameters().iter();
        parameters.map(|(name, var)| (format!("param.{name}"), var.as_detached_tensor())).collect()
    }

    /// Every tensor by name: `param.NAME` and the optimizer's, which are as [`Training::optimizer_tensors`] gives them.
    ///
    /// # Errors
    /// As there.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = self.optimizer_tensors()?;
        tensors.extend(self.parameter_tensors());
        Ok(tensors)
    }

    /// [`Training::digest`], where the optimizer's tensors are at hand.
    ///
    /// # Errors
    /// As there.
    pub fn digest_with(&self, optimizer: &BTreeMap<String, Tensor>) -> Result<String> {
        let own = match self.processes().is_first() {
            true => {
                let mut tensors = optimizer.clone();
                tensors.extend(self.parameter_tensors());
                self.state.digest_with(&tensors).map_err(Error::from)
            }
            false => Ok(String::new()),
        };
        let own = agree(self.processes(), own)?;
        Ok(String::from_utf8_lossy(&self.processes().from_first(own.as_bytes())?).into_owned())
    }

    /// The digest of model, optimizer and counters as they stand, the same on all processes.
    ///
    /// # Errors
    /// When a process has ended, or a tensor can't be read back from its device.
    pub fn digest(&self) -> Result<String> {
        self.digest_with(&self.optimizer_tensors()?)
    }
}
