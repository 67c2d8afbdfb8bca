//! Checkpoints of a [`Trainer`] with any model: counters and every tensor, complete or absent.

use std::path::{Path, PathBuf};

use vulpes_model::Model;
use vulpes_trainer::Trainer;

use super::files::{Disk, Files};
use super::{check_digest, folder_name, newest, save_folder, steps, tensors, write_state};
use crate::error::Result;

/// Saves all that `trainer` needs to resume, as `root/step-00000100`; returns the folder.
///
/// # Errors
/// Returns the file operation that failed. Earlier checkpoints are unaffected.
pub fn save<M: Model>(trainer: &Trainer<M>, root: impl AsRef<Path>) -> Result<PathBuf> {
    let (state, tensors) = trainer.saved()?;
    let fill = |dir: &Path, files: &dyn Files| write_state(dir, &tensors, &state, files);
    save_folder(root.as_ref(), &folder_name(state.step), &Disk, &fill)
}

/// Restores `trainer` from the newest intact checkpoint under `root`; returns its step, or `None` if there is no
/// checkpoint yet.
///
/// # Errors
/// Returns [`crate::Error::NoCheckpoint`] if all are damaged, an error that names a tensor that isn't the model's, or
/// [`crate::Error::Damaged`] if the state read back has another digest than the saved one.
pub fn resume<M: Model>(trainer: &mut Trainer<M>, root: impl AsRef<Path>) -> Result<Option<u64>> {
    if steps(root.as_ref()).is_empty() {
        return Ok(None);
    }
    let (whole, _) = newest(root.as_ref())?;
    let saved = tensors(&whole.path, &trainer.model().device())?;
    trainer.restore(whole.state.clone(), &saved)?;
    check_digest(&trainer.saved()?.0.digest, &whole)?;
    Ok(Some(whole.state.step))
}
