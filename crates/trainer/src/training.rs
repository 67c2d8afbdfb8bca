//! A model in training: advances it step by step, with everything that the next step depends on.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;
use vulpes_collective::Processes;
use vulpes_data::Batch;
use vulpes_model::{Model, ParameterSpec, Transformer};
use vulpes_ops::threads::{Precision, with_kernel_threads};

use crate::average::{Average, parted};
use crate::census::census;
use crate::contrast::Contrast;
use crate::error::{Error, Result, agree};
use crate::evaluate::{Evaluation, evaluate};
use crate::optimizer::{GradientDtype, Optimizer, OptimizerConfig, paces};
use crate::refused::FailedStep;
use crate::schedule::{Cooldown, Schedule};
use crate::shard::Divisor;
use crate::spike::{OnSpike, SpikeRule};
use crate::state::State;
use crate::step::{StepLoss, StepOptions, Stepper};

/// The options of a training.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// How a gradient becomes an update.
    pub optimizer: OptimizerConfig,
    /// The learning rate of each step.
    pub schedule: Schedule,
    /// Decay of the exponential moving average of the weights; `None` = no average.
    pub average: Option<f64>,
    /// The frozen parameters.
    pub frozen: BTreeSet<String>,
    /// The rule for loss spikes.
    pub spike: SpikeRule,
    /// The probability mass spread over all classes ([`vulpes_ops::CrossEntropyOptions`]).
    pub label_smoothing: f64,
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads; the results are bit-identical for any number.
    pub n_threads: usize,
    /// The processes that train together; the results are bit-identical for any number.
    pub processes: Processes,
    /// The precision of the factors of matrix products, in training and evaluation.
    pub precision: Precision,
    /// Whether the activations of each block are recomputed in the backward pass instead of kept: less memory, the same
    /// bits.
    pub recompute: bool,
    /// The dtype in which gradients are kept for the optimizer.
    pub gradient_dtype: GradientDtype,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// The contrastive loss, if the objective uses it.
    pub contrast: Option<Contrast>,
    /// The factor of each label's loss; empty = all equal.
    pub class_weights: Vec<f64>,
}

/// Model, optimizer and counters.
pub struct Training<M = Transformer> {
    options: TrainingOptions,
    stepper: Stepper<M>,
    optimizer: Optimizer,
    average: Option<Average<M>>,
    /// Counters and cursor.
    pub state: State,
    /// Every parameter's name, until the census is done.
    to_count: Option<Vec<String>>,
}

/// The results of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// Loss and counts.
    pub loss: StepLoss,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Whether the update was dropped because the loss spiked.
    pub skipped: bool,
}

impl<M: Model> Training<M> {
    /// A training that continues from `state`, with a new optimizer.
    ///
    /// # Errors
    /// Returns an error if the device has no memory left, or the threads can't be started.
    pub fn new(model: &M, mut options: TrainingOptions, state: State) -> Result<Self> {
        if let Some(cooldown) = state.cooldown {
            options.schedule = options.schedule.with_cooldown(cooldown);
        }
        let specs = model.specs();
        if let Some(name) = options.frozen.iter().find(|name| specs.iter().all(|spec| spec.name != **name)) {
            let (name, known) = (name.clone(), specs.into_iter().map(|spec| spec.name).collect());
            return Err(Error::Frozen { name, known });
        }
        let trainable = |name: &str| !options.frozen.contains(name);
        let undivided = specs.iter().filter(|spec| Optimizer::is_undivided(&options.optimizer, &spec.role));
        let stepper = Stepper::new(
            model,
            &trainable,
            StepOptions {
                n_shards: options.n_shards,
                n_threads: options.n_threads,
                processes: options.processes.clone(),
                label_smoothing: options.label_smoothing,
                precision: options.precision,
                recompute: options.recompute,
                gradient_dtype: options.gradient_dtype,
                seed: options.seed,
                contrast: options.contrast,
                undivided: undivided.map(|spec| spec.name.clone()).collect(),
                class_weights: options.class_weights.clone(),
            },
        )?;
        let own = |spec: &ParameterSpec| stepper.slices().own(&spec.name);
        let optimizer =
            Optimizer::new(&options.optimizer, &specs, model.parameters(), &trainable, &own, options.seed)?;
        let trained: Vec<ParameterSpec> =
            specs.iter().filter(|spec| trainable(&spec.name)).cloned().collect();
        let paces = paces(&options.optimizer.groups, &model.stored_names(), &trained)?;
        let optimizer = optimizer.with_paces(paces);
        let to_count = Some(specs.into_iter().map(|spec| spec.name).collect());
        let average = options.average.map(|decay| Average::new(stepper.model(), &trainable, decay));
        let average = average.transpose()?;
        Ok(Self { options, stepper, optimizer, average, state, to_count })
    }

    /// The model that is trained.
    pub fn trained(&self) -> &M {
        self.stepper.model()
    }

    /// The model that is evaluated, saved and sampled from: with averaged weights, if there is an average.
    pub fn model(&self) -> &M {
        self.average.as_ref().map_or(self.trained(), Average::model)
    }

    /// Sets the cooldown of a run without a fixed number of steps.
    pub fn end(&mut self, cooldown: Cooldown) {
        self.state.cooldown = Some(cooldown);
        self.options.schedule = self.options.schedule.clone().with_cooldown(cooldown);
    }

    /// Runs the next step on `batches`: gradients, census at the first, checks, update, counters (all but the cursor).
    ///
    /// # Errors
    /// Returns an error if an operation fails or the census refuses the model, or [`Error::FailedStep`] if the step
    /// must not be applied. The training is then unchanged.
    pub fn advance(&mut self, batches: &[Batch]) -> Result<StepNumbers> {
        self.advance_over(batches, self.divisor(batches))
    }

    /// The divisor of the losses of a step on `batches`.
    pub fn divisor(&self, batches: &[Batch]) -> Divisor {
        self.stepper.divisor(batches)
    }

    /// [`Training::advance`] on batches with some targets removed: the sum of the losses is divided by `divisor`, that
    /// of the complete batches, so that the remaining targets keep their weight.
    ///
    /// # Errors
    /// See [`Training::advance`].
    pub fn advance_over(&mut self, batches: &[Batch], divisor: Divisor) -> Result<StepNumbers> {
        match self.stepper.pool() {
            Some(pool) => pool.install(|| self.advance_here(batches, divisor)),
            None => self.advance_here(batches, divisor),
        }
    }

    fn advance_here(&mut self, batches: &[Batch], divisor: Divisor) -> Result<StepNumbers> {
        let step = self.state.step + 1;
        let (loss, norm, gradients) = self.stepper.gradients_over(step, batches, divisor)?;
        if !loss.loss.is_finite() || !norm.is_finite() {
            let own = gradients.not_finite().map_err(Error::from);
            let own = own.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<String>>());
            let own = agree(&self.options.processes, own)?;
            let parameters = self.stepper.slices().any_of(&own)?;
            return Err(FailedStep::NotFinite { step, loss: loss.loss, grad_norm: norm, parameters }.into());
        }
        if let Some(all) = &self.to_count {
            census(gradients, all.iter().map(String::as_str), &self.options.frozen)?;
            self.to_count = None;
        }
        let rule = &self.options.spike;
        let mut spike = self.state.spike;
        let spiked = spike.is_spike(loss.loss, rule);
        if spiked && rule.then == OnSpike::Stop {
            let (factor, mean) = (rule.factor, spike.corrected());
            return Err(FailedStep::Spike { step, loss: loss.loss, factor, mean }.into());
        }
        let skipped = spiked && rule.then == OnSpike::Skip;
        let lr = self.options.schedule.lr(step);
        if !skipped {
            let scale = self.optimizer.clip_scale(norm);
            let decay = self.options.schedule.decay_factor(step);
            let update = || self.optimizer.step(gradients, lr, scale, decay);
            with_kernel_threads(self.options.n_threads, update)?;
            self.stepper.slices().share()?;
            if let Some(average) = &self.average {
                with_kernel_threads(self.options.n_threads, || average.update(self.optimizer.updates()))?;
            }
        }
        self.stepper.release_rounded();
        let state = &mut self.state;
        state.step = step;
        state.spike = spike;
        state.tokens += loss.n_tokens as u64;
        state.skipped_steps += u64::from(skipped);
        state.updates = self.optimizer.updates();
        state.val_loss = None;
        state.chain(loss.loss, norm);
        Ok(StepNumbers { loss, grad_norm: norm, lr, skipped })
    }

    /// By how much each row of the next step would lower the loss of `question`, to first order, in the order of the
    /// batches. Changes nothing. The equation is in `effects.rs`.
    ///
    /// # Errors
    /// Returns an error if an operation fails, or several processes train together.
    pub fn effects(&mut self, batches: &[Batch], question: &Batch) -> Result<Vec<f64>> {
        let step = self.state.step + 1;
        let lr = self.options.schedule.lr(step);
        crate::effects::effects(&mut self.stepper, &self.optimizer, (step, lr), batches, question)
    }

    /// Evaluates the model on `batches`, on the threads of the training; several processes share them.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    pub fn evaluate(&self, batches: impl Iterator<Item = vulpes_data::Result<Batch>>) -> Result<Evaluation> {
        let (pool, kernel_threads) = self.stepper.side_by_side();
        let how = (kernel_threads, self.options.precision);
        let found = match &self.options.contrast {
            None => evaluate(self.model(), batches, pool, how, &self.options.processes),
            Some(contrast) => contrast.evaluate(self.model(), batches, pool, how),
        };
        self.stepper.release_pages();
        found
    }

    /// The stepper.
    #[cfg(test)]
    pub(crate) fn stepper_mut(&mut self) -> &mut Stepper<M> {
        &mut self.stepper
    }

    /// The processes that train together.
    pub fn processes(&self) -> &Processes {
        self.stepper.processes()
    }

    /// The complete optimizer tensors by name ([`Optimizer::state`]), and the averaged weights as `ema.NAME`, on the
    /// first process; empty on the others, which send it their parts.
    ///
    /// # Errors
    /// Returns an error if a process has ended, or a tensor can't be read back from its device.
    pub fn optimizer_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = match self.processes().is_alone() {
            true => self.optimizer.state(),
            false => self.optimizer.collect(self.stepper.slices())?,
        };
        // Every process has all weights, and therefore their averages.
        let means = self.average.iter().filter(|_| self.processes().is_first()).flat_map(Average::tensors);
        tensors.extend(means);
        Ok(tensors)
    }

    /// Bytes of the optimizer's state in this process.
    pub fn optimizer_bytes(&self) -> usize {
        self.optimizer.bytes()
    }

    /// Restores the optimizer's saved tensors, or the part of them that this process owns; the counters are already
    /// those of the state. Averages that weren't saved start at the weights.
    ///
    /// # Errors
    /// See [`Optimizer::set_state`].
    pub fn set_optimizer_tensors(
        &mut self,
        tensors: &BTreeMap<String, Tensor>,
    ) -> std::result::Result<(), String> {
        let (means, others) = parted(tensors);
        if let Some(average) = self.average.as_ref().filter(|_| !means.is_empty()) {
            average.set(&means)?;
        }
        self.optimizer.set_state(&others, self.state.updates)
    }

    /// The parameters by name, as `param.NAME`.
    pub fn parameter_tensors(&self) -> BTreeMap<String, Tensor> {
        let parameters = self.trained().parameters().iter();
        parameters.map(|(name, var)| (format!("param.{name}"), var.as_detached_tensor())).collect()
    }

    /// Every tensor by name: `param.NAME` and those of [`Training::optimizer_tensors`].
    ///
    /// # Errors
    /// See [`Training::optimizer_tensors`].
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = self.optimizer_tensors()?;
        tensors.extend(self.parameter_tensors());
        Ok(tensors)
    }

    /// Restores counters and tensors, as returned by [`Training::tensors`].
    ///
    /// # Errors
    /// Returns [`Error::State`], which names a missing tensor or one of another shape.
    pub fn restore(&mut self, state: State, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in self.trained().parameters().iter() {
            let saved = tensors.get(&format!("param.{name}"));
            let saved = saved.ok_or_else(|| Error::State(format!("`param.{name}` is missing")))?;
            if saved.shape() != var.shape() {
                let message =
                    format!("`param.{name}` is {:?}, the model has {:?}", saved.shape(), var.shape());
                return Err(Error::State(message));
            }
            var.set(&saved.to_dtype(var.dtype())?)?;
        }
        if let Some(cooldown) = state.cooldown {
            self.end(cooldown);
        }
        self.state = state;
        let of_optimizer = tensors.iter().filter(|(name, _)| !name.starts_with("param."));
        let of_optimizer = of_optimizer.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        self.set_optimizer_tensors(&of_optimizer).map_err(Error::State)
    }

    /// [`Training::digest`] with given optimizer tensors.
    ///
    /// # Errors
    /// See [`Training::digest`].
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

    /// The digest of model, optimizer and counters, equal on all processes.
    ///
    /// # Errors
    /// Returns an error if a process has ended, or a tensor can't be read back from its device.
    pub fn digest(&self) -> Result<String> {
        self.digest_with(&self.optimizer_tensors()?)
    }
}
