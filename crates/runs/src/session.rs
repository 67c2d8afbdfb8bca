//! A training and the plan that it follows: starting, saving and restoring a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use vulpes_model::{Head, Transformer, folder};
use vulpes_trainer::{Evaluation, State, Training, TrainingOptions};

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, STATE_TENSORS, Whole, check_digest, write_json, write_state};
use crate::error::{Error, Result, agreed};
use crate::plan::Plan;
use crate::same_model::require;

/// A training that follows a plan.
pub struct Session<'a> {
    plan: &'a Plan,
    /// Model, optimizer and counters.
    pub training: Training,
}

/// What a checkpoint holds besides the model and the counters: on the first process the complete optimizer tensors.
pub struct Collected {
    optimizer: BTreeMap<String, Tensor>,
}

impl<'a> Session<'a> {
    /// The run before its first step, and the notes from reading `train.init_from`.
    ///
    /// # Errors
    /// Returns an error if the model can't be created or read.
    pub fn start(plan: &'a Plan) -> Result<(Self, Vec<String>)> {
        let (transformer, warnings) = plan.init()?;
        let state = State { data: plan.data_mark()?, ..State::start() };
        Ok((Self::new(plan, &transformer, state, plan.n_threads)?, warnings))
    }

    /// The run at an intact checkpoint.
    ///
    /// # Errors
    /// Returns an error if the checkpoint's model isn't the plan's, the state doesn't fit, or the digest of the
    /// restored state differs from the saved one.
    pub fn restore(plan: &'a Plan, whole: &Whole) -> Result<Self> {
        Self::restore_on(plan, whole, plan.n_threads)
    }

    /// [`Session::restore`] with another number of threads; the results are bit-identical.
    ///
    /// # Errors
    /// As [`Session::restore`].
    pub(crate) fn restore_on(plan: &'a Plan, whole: &Whole, n_threads: usize) -> Result<Self> {
        let session = agreed(&plan.processes, Self::read(plan, whole, n_threads))?;
        // All processes found the same.
        match check_digest(&session.training.digest()?, whole) {
            Ok(()) => Ok(session),
            Err(error) => agreed(&plan.processes, Err(error)),
        }
    }

    /// Reads what this process needs of a checkpoint.
    fn read(plan: &'a Plan, whole: &Whole, n_threads: usize) -> Result<Self> {
        let damaged = |what: String| Error::Damaged { path: whole.path.clone(), what };
        require(&plan.sources_of(&whole.path), &plan.model)?;
        let transformer = plan.load(&whole.path)?;
        let mut tensors = checkpoint::tensors(&whole.path, &plan.device)?;
        if plan.dtype == DType::F64 || tensors.keys().any(|name| name.starts_with("param.")) {
            // A model folder holds float32 where transformers requires it, and the mean of the weights if the run has
            // one; the state holds every bit.
            let is_f64 = plan.dtype == DType::F64;
            let kept = |name: &str| !plan.is_trainable(name) && (plan.adapter_of().is_some() || !is_f64);
            for (name, var) in transformer.parameters().iter().filter(|(name, _)| !kept(name)) {
                let exact = tensors.remove(&format!("param.{name}"));
                let exact =
                    exact.ok_or_else(|| damaged(format!("{STATE_TENSORS}: `param.{name}` is missing")))?;
                var.set(&exact)?;
            }
        }
        let mut session = Self::new(plan, &transformer, whole.state.clone(), n_threads)?;
        session
            .training
            .set_optimizer_tensors(&tensors)
            .map_err(|what| damaged(format!("{STATE_TENSORS}: {what}")))?;
        Ok(session)
    }

    fn new(plan: &'a Plan, transformer: &Transformer, state: State, n_threads: usize) -> Result<Self> {
        let options = TrainingOptions { n_threads, ..plan.training() };
        Ok(Self { plan, training: Training::new(transformer, options, state)? })
    }

    /// The model: with the running mean of the weights, if the run has one.
    pub fn transformer(&self) -> &Transformer {
        self.training.model()
    }

    /// The plan that the session follows.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Evaluates the model on the validation set.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    pub fn evaluate(&self) -> Result<Evaluation> {
        let plan = self.plan;
        Ok(self.training.evaluate(plan.dataset.validation_batches(plan.config.train.batch_rows))?)
    }

    /// Gathers what a checkpoint holds on the first process, and records its digest in the state; every process takes
    /// part.
    ///
    /// # Errors
    /// Returns an error if a process has ended, or a tensor can't be read back from its device.
    pub fn collect(&mut self) -> Result<Collected> {
        let optimizer = self.training.optimizer_tensors()?;
        self.training.state.digest = self.training.digest_with(&optimizer)?;
        Ok(Collected { optimizer })
    }

    /// Saves what was collected, and the rest of the run's state, as the folder `name` under `root`.
    ///
    /// # Errors
    /// Returns the first file operation that failed, or [`Error::DiskFull`] before any if there is too little space.
    pub fn save(&self, collected: &Collected, root: &Path, name: &str, files: &dyn Files) -> Result<PathBuf> {
        let needed = self.plan.checkpoint_bytes();
        files.create_dir(root).map_err(|source| Error::io("create", root, source))?;
        if let Some(free) = files.free_space(root).filter(|free| *free < needed) {
            let detail = format!(", {free} are free");
            return Err(Error::DiskFull { path: root.to_path_buf(), needed, detail });
        }
        checkpoint::save_folder(root, name, files, &|dir, files| self.fill(collected, dir, files))
    }

    fn fill(&self, collected: &Collected, dir: &Path, files: &dyn Files) -> Result<()> {
        self.fill_model(dir, files)?;
        let mut tensors = collected.optimizer.clone();
        let is_f64 = self.plan.dtype == DType::F64;
        if is_f64 || self.plan.config.train.ema.is_some() {
            // (An adapter's base model is exact in its folder, and so are frozen parameters.)
            let all = self.training.parameter_tensors().into_iter();
            let is_kept =
                |name: &str| !self.plan.is_trainable(name) && (self.plan.adapter_of().is_some() || !is_f64);
            tensors.extend(all.filter(|(name, _)| !is_kept(name.trim_start_matches("param."))));
        }
        write_state(dir, &tensors, &self.training.state, files)
    }

    /// Writes the files of the model folder.
    fn fill_model(&self, dir: &Path, files: &dyn Files) -> Result<()> {
        let tokenizer = self.plan.dataset.tokenizer();
        let extra = self.plan.extra();
        let written = match self.plan.adapter_of() {
            Some((_, base)) => folder::save_adapter(dir, self.transformer(), &base, &extra)?.0,
            None => {
                folder::save(dir, self.transformer(), &extra)?;
                let of_text = extra.sentence.iter();
                let of_text = of_text.flat_map(|own| folder::sentence_files(own, self.plan.model.d_hidden()));
                let own = ["model.safetensors", "config.json"].map(str::to_owned).into_iter();
                own.chain(of_text.map(|(name, _)| name)).collect()
            }
        };
        let generation = dir.join("generation_config.json");
        if generation.is_file()
            || (self.plan.adapter_of().is_some() && self.plan.model.head == Head::NextToken)
        {
            let read = std::fs::read(&generation).unwrap_or_default();
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
        for (name, bytes) in self.plan.chat_files() {
            let path = dir.join(name);
            files.write(&path, &bytes).map_err(|source| Error::io("write", &path, source))?;
        }
        for name in written {
            let path = dir.join(name);
            files.written(&path).map_err(|source| Error::io("write", &path, source))?;
        }
        Ok(())
    }
}
