//! A run at one moment: a training and the plan that it follows; what begins it, saves it and brings it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use vulpes_model::{Transformer, folder};
use vulpes_trainer::{Evaluation, State, Training};

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, STATE_JSON, STATE_TENSORS, Whole};
use crate::error::{Error, Result, agreed};
use crate::plan::Plan;
use crate::same_model::require;

/// A training that follows a plan.
pub struct Session<'a> {
    plan: &'a Plan,
    /// Model, optimizer and counters.
    pub training: Training,
}

/// What a checkpoint holds beside the model and the counters: on the first process the optimizer's tensors, whole.
pub struct Collected {
    optimizer: BTreeMap<String, Tensor>,
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
    /// When the checkpoint holds another model than the plan's, the state doesn't fit, or the restored state has another digest than the saved one.
    pub fn restore(plan: &'a Plan, whole: &Whole) -> Result<Self> {
        let session = agreed(&plan.processes, Self::read(plan, whole))?;
        if session.training.digest()? != whole.state.digest {
            let what = "what was read back has another digest than what was saved".to_owned();
            return agreed(&plan.processes, Err(Error::Damaged { path: whole.path.clone(), what }));
        }
        Ok(session)
    }

    /// What this process needs of a checkpoint.
    fn read(plan: &'a Plan, whole: &Whole) -> Result<Self> {
        let damaged = |what: String| Error::Damaged { path: whole.path.clone(), what };
        require(&whole.path, &plan.model)?;
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
            .training
            .set_optimizer_tensors(&tensors)
            .map_err(|what| damaged(format!("{STATE_TENSORS}: {what}")))?;
        Ok(session)
    }

    fn new(plan: &'a Plan, transformer: &Transformer, state: State) -> Result<Self> {
        Ok(Self { plan, training: Training::new(transformer, plan.training(), state)? })
    }

    /// The model.
    pub fn transformer(&self) -> &Transformer {
        self.training.transformer()
    }

    /// The plan that the session follows.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Evaluates the model on the validation set.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn evaluate(&self) -> Result<Evaluation> {
        let plan = self.plan;
        Ok(self.training.evaluate(plan.dataset.validation_batches(plan.config.train.batch_rows))?)
    }

    /// Puts together what a checkpoint holds, and notes its digest in the state; every process takes part, and the first
    /// one gets it.
    ///
    /// # Errors
    /// When a process has ended, or a tensor can't be read back from its device.
    pub fn collect(&mut self) -> Result<Collected> {
        let optimizer = self.training.optimizer_tensors()?;
        self.training.state.digest = self.training.digest_with(&optimizer)?;
        Ok(Collected { optimizer })
    }

    /// Saves what was collected, and all else of the run, as the folder `name` under `root`.
    ///
    /// # Errors
    /// The first file operation that failed; [`Error::DiskFull`] before any, where there is too little room.
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
        if self.plan.dtype == DType::F64 {
            tensors.extend(self.training.parameter_tensors());
        }
        let path = dir.join(STATE_TENSORS);
        // Not `serialize_to_file`: every write goes through `files`, so that tests can make it fail.
        let bytes = safetensors::serialize(&tensors, None)
            .map_err(|error| Error::io("write", &path, std::io::Error::other(error)))?;
        files.write(&path, &bytes).map_err(|source| Error::io("write", &path, source))?;
        write_json(&dir.join(STATE_JSON), &self.training.state, files)
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
        let of_text =
            extra.sentence.iter().flat_map(|own| folder::sentence_files(own, self.plan.model.d_hidden()));
        let of_text: Vec<String> = of_text.map(|(name, _)| name).collect();
        for name in ["model.safetensors", "config.json"].into_iter().chain(of_text.iter().map(String::as_str))
        {
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
