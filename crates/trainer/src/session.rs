//! A run at one moment: model, optimizer, counters; what advances it by one step, saves it and brings it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use vulpes_data::{Batch, Rank};
use vulpes_model::{Transformer, folder, parameter_specs};
use vulpes_ops::threads::with_kernel_threads;

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, STATE_JSON, STATE_TENSORS, State, Whole};
use crate::config::OnSpike;
use crate::optimizer::Optimizer;
use crate::plan::Plan;
use crate::schedule::Schedule;
use crate::step::{StepLoss, Stepper};
use crate::{Error, Result, census};

/// Model, optimizer and counters of a run.
pub struct Session<'a> {
    plan: &'a Plan,
    schedule: Schedule,
    stepper: Stepper,
    optimizer: Optimizer,
    /// Counters and cursor.
    pub state: State,
    counted: bool,
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

/// A step that must not be applied. Nothing of the session has changed.
#[derive(Clone, Debug)]
pub struct Sick {
    /// What is wrong, in words.
    pub words: String,
    /// Parameters whose gradient is not finite.
    pub parameters: Vec<String>,
}

impl<'a> Session<'a> {
    /// The run before its first step, and what reading `train.init_from` had to say.
    ///
    /// # Errors
    /// When the model can't be made or read.
    pub fn start(plan: &'a Plan) -> Result<(Self, Vec<String>)> {
        let (transformer, warnings) = plan.init()?;
        let state = State { data: plan.data_mark()?, ..State::start() };
        Ok((Self::new(plan, &transformer, state)?, warnings))
    }

    /// The run at a whole checkpoint.
    ///
    /// # Errors
    /// When model or state don't fit the plan, or the restored state has another digest than the saved one.
    pub fn restore(plan: &'a Plan, whole: &Whole) -> Result<Self> {
        let damaged = |what: String| Error::Damaged { path: whole.path.clone(), what };
        let (transformer, _) = plan.load(&whole.path)?;
        let mut tensors = checkpoint::tensors(&whole.path, &plan.device)?;
        if plan.dtype == DType::F64 {
            // A model folder holds float32 where transformers wants it; the state holds every bit.
            for (name, var) in transformer.parameters().iter() {
                let exact = tensors.remove(&format!("param.{name}"));
                let exact =
                    exact.ok_or_else(|| damaged(format!("{STATE_TENSORS}: `param.{name}` is missing")))?;
                var.set(&exact)?;
            }
        }
        let mut session = Self::new(plan, &transformer, whole.state.clone())?;
        session
            .optimizer
            .set_state(&tensors, whole.state.updates)
            .map_err(|what| damaged(format!("{STATE_TENSORS}: {what}")))?;
        if session.digest()? != whole.state.digest {
            return Err(damaged("what was read back has another digest than what was saved".to_owned()));
        }
        Ok(session)
    }

    fn new(plan: &'a Plan, transformer: &Transformer, state: State) -> Result<Self> {
        let config = &plan.config;
        let trainable = |name: &str| plan.is_trainable(name);
        let stepper = Stepper::new(
            transformer,
            &trainable,
            plan.n_shards,
            plan.n_threads,
            config.objective.label_smoothing,
            config.train.seed,
            Rank::default(),
        )?;
        let specs = parameter_specs(&plan.model);
        let optimizer = Optimizer::new(&config.optimizer, &specs, transformer.parameters(), &trainable)?;
        let schedule = Schedule::new(&config.schedule, config.optimizer.lr, config.train.steps);
        Ok(Self { plan, schedule, stepper, optimizer, state, counted: false })
    }

    /// The model.
    pub fn transformer(&self) -> &Transformer {
        self.stepper.transformer()
    }

    /// What runs the shards.
    pub fn stepper(&self) -> &Stepper {
        &self.stepper
    }

    /// The plan that the session follows.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Does the next step on `batches`: gradients, census at the first, checks, update, counters (all but the cursor).
    ///
    /// # Errors
    /// When an operation fails or the census refuses. `Ok(Err(Sick))` when the numbers are such that the step must
    /// not be applied.
    pub fn advance(&mut self, batches: &[Batch]) -> Result<std::result::Result<StepNumbers, Sick>> {
        match self.stepper.pool() {
            Some(pool) => pool.install(|| self.advance_here(batches)),
            None => self.advance_here(batches),
        }
    }

    fn advance_here(&mut self, batches: &[Batch]) -> Result<std::result::Result<StepNumbers, Sick>> {
        let step = self.state.step + 1;
        let train = &self.plan.config.train;
        let kernel_threads = self.plan.n_threads;
        let (loss, norm, gradients) = self.stepper.gradients(step, batches)?;
        if !loss.loss.is_finite() || !norm.is_finite() {
            let parameters: Vec<String> = gradients.not_finite()?.into_iter().map(str::to_owned).collect();
            return Ok(Err(Sick { words: sick_words(step, loss.loss, norm, &parameters), parameters }));
        }
        if !self.counted {
            let specs = parameter_specs(&self.plan.model);
            let all = specs.iter().map(|spec| spec.name.as_str());
            census::census(gradients, all, &self.plan.frozen)?;
            self.counted = true;
        }
        let mut spike = self.state.spike;
        let leapt = spike.is_leap(loss.loss, train.spike_factor, train.spike_after);
        if leapt && train.on_spike == OnSpike::Stop {
            let words = format!(
                "step {step}: the loss leapt to {:.4}, more than {} times the running mean {:.4}",
                loss.loss,
                train.spike_factor,
                spike.corrected()
            );
            return Ok(Err(Sick { words, parameters: Vec::new() }));
        }
        let skipped = leapt && train.on_spike == OnSpike::Skip;
        let lr = self.schedule.lr(step);
        if !skipped {
            let clip = self.plan.config.optimizer.clip;
            let scale = if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
            with_kernel_threads(kernel_threads, || self.optimizer.step(gradients, lr, scale))?;
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

    /// Every tensor of the run by name: `param.NAME` and the optimizer's.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = self.optimizer.state();
        let parameters = self.transformer().parameters().iter();
        tensors.extend(parameters.map(|(name, var)| (format!("param.{name}"), var.as_detached_tensor())));
        tensors
    }

    /// The digest of the run as it stands.
    ///
    /// # Errors
    /// When a tensor can't be read back from its device.
    pub fn digest(&self) -> Result<String> {
        Ok(self.state.digest_with(&self.tensors())?)
    }

    /// Saves the run as the folder `name` under `root`.
    ///
    /// # Errors
    /// The first file operation that failed; [`Error::DiskFull`] before any, where there is too little room.
    pub fn save(&mut self, root: &Path, name: &str, files: &dyn Files) -> Result<PathBuf> {
        self.state.digest = self.digest()?;
        let needed = self.plan.checkpoint_bytes();
        files.create_dir(root).map_err(|source| Error::io("create", root, source))?;
        if let Some(free) = files.free_space(root).filter(|free| *free < needed) {
            let detail = format!(", {free} are free");
            return Err(Error::DiskFull { path: root.to_path_buf(), needed, detail });
        }
        checkpoint::save_folder(root, name, files, &|dir, files| self.fill(dir, files))
    }

    fn fill(&self, dir: &Path, files: &dyn Files) -> Result<()> {
        self.fill_model(dir, files)?;
        let mut tensors = self.optimizer.state();
        if self.plan.dtype == DType::F64 {
            tensors = self.tensors();
        }
        let path = dir.join(STATE_TENSORS);
        let bytes = safetensors::serialize(&tensors, None)
            .map_err(|error| Error::io("write", &path, std::io::Error::other(error)))?;
        files.write(&path, &bytes).map_err(|source| Error::io("write", &path, source))?;
        write_json(&dir.join(STATE_JSON), &self.state, files)
    }

    /// The model folder's own files.
    fn fill_model(&self, dir: &Path, files: &dyn Files) -> Result<()> {
        let tokenizer = self.plan.dataset.tokenizer();
        let extra = self.plan.extra();
        folder::save(dir, self.transformer(), &extra)?;
        let generation = dir.join("generation_config.json");
        if generation.is_file() {
            let read = std::fs::read(&generation).map_err(|source| Error::io("read", &generation, source))?;
            let mut object: serde_json::Map<_, _> = serde_json::from_slice(&read).unwrap_or_default();
            object.extend(self.plan.generation_config());
            write_json(&generation, &object, files)?;
        }
        if let Some(tokenizer) = tokenizer {
            let path = dir.join("tokenizer.json");
            files
                .write(&path, tokenizer.to_json().as_bytes())
                .map_err(|source| Error::io("write", &path, source))?;
        }
        for (name, bytes) in self.plan.tokenizer_files() {
            let path = dir.join(name);
            files.write(&path, bytes).map_err(|source| Error::io("write", &path, source))?;
        }
        for name in ["model.safetensors", "config.json"] {
            let path = dir.join(name);
            files.written(&path).map_err(|source| Error::io("write", &path, source))?;
        }
        Ok(())
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize, files: &dyn Files) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
        text.push('\n');
        files.write(path, text.as_bytes())
    };
    write().map_err(|source| Error::io("write", path, source))
}

fn sick_words(step: u64, loss: f64, norm: f64, parameters: &[String]) -> String {
    let named = match parameters {
        [] => String::new(),
        [one] => format!("; the gradient of `{one}` is not finite"),
        [first, rest @ ..] => {
            format!("; the gradients of `{first}` and {} other parameters are not finite", rest.len())
        }
    };
    format!("step {step}: loss {loss}, gradient norm {norm}: not finite, and not applied{named}")
}
