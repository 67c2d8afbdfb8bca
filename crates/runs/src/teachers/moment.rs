//! Finds the run and the step that a model folder comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::{self, STATE_TENSORS, Whole, folder_name};
use crate::error::{Error, Result};
use crate::run_folder::{CONFIG, checkpoints};

/// A model saved by a run: the run's folder, and the model's checkpoint.
#[derive(Clone, Debug)]
pub struct Moment {
    run_dir: PathBuf,
    pub(super) whole: Whole,
}

impl Moment {
    /// The moment of a run folder (its `model/`), of that model folder, or of one of its checkpoints.
    ///
    /// # Errors
    /// Returns [`Error::Usage`] if `path` doesn't belong to a run or the model's checkpoint was removed;
    /// [`Error::Damaged`] if it differs from what was written.
    pub fn of(path: &Path) -> Result<Self> {
        let holds_run = |dir: &Path| dir.join(CONFIG).is_file();
        if holds_run(path) {
            return Self::of_model(path, &path.join("model"));
        }
        let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let above = full.parent();
        if let Some(run) = above.filter(|run| holds_run(run)) {
            return Self::of_model(run, &full);
        }
        let run = above.filter(|above| above.ends_with("checkpoints")).and_then(Path::parent);
        if let Some(run) = run.filter(|run| holds_run(run)) {
            return Ok(Self { run_dir: run.to_path_buf(), whole: checkpoint::verify(&full)? });
        }
        Err(Error::Usage(format!(
            "{}: --teachers repeats the training, and this is not a run: there is no {CONFIG} (and no \
             checkpoints/) next to the model. Pass a folder that `train` created, such as runs/NAME",
            path.display()
        )))
    }

    fn of_model(run: &Path, model: &Path) -> Result<Self> {
        let root = checkpoints(run);
        let steps = checkpoint::steps(&root);
        let weights = |dir: &Path| Manifest::read(dir).map(weights);
        let unreadable = |what| Error::Damaged { path: model.to_path_buf(), what };
        // A run that was stopped early has checkpoints and no model: the newest one is used.
        let step = match model.is_dir() {
            false => steps.last().copied(),
            true => {
                let wanted = weights(model).map_err(unreadable)?;
                let is_it =
                    |step: &&u64| weights(&root.join(folder_name(**step))).is_ok_and(|own| own == wanted);
                steps.iter().rev().find(is_it).copied()
            }
        };
        let Some(step) = step else {
            let kept = match steps.as_slice() {
                [] => "none".to_owned(),
                some => some.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
            };
            return Err(Error::Usage(format!(
                "{}: this model's checkpoint no longer exists (existing steps: {kept}), and --teachers compares \
                 the rerun with it. Train again with --set train.keep_best=1 (the default), and don't change \
                 checkpoints/",
                run.display()
            )));
        };
        Ok(Self { run_dir: run.to_path_buf(), whole: checkpoint::verify_step(&root, step)? })
    }

    /// The run's folder.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The step after which the model was saved.
    pub fn step(&self) -> u64 {
        self.whole.state.step
    }

    /// The tokens that the run had read by then.
    pub(super) fn tokens(&self) -> u64 {
        self.whole.state.tokens
    }
}

/// The digests of a folder's weights.
fn weights(manifest: Manifest) -> BTreeMap<String, String> {
    let is_model = |name: &str| name.ends_with(".safetensors") && name != STATE_TENSORS;
    let files = manifest.files.into_iter().filter(|(name, _)| is_model(name));
    files.map(|(name, entry)| (name, entry.blake3)).collect()
}
