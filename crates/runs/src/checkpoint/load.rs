//! Finds the newest intact checkpoint and reads the optimizer's tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use vulpes_trainer::State;

use super::manifest::Manifest;
use super::state::{STATE_TENSORS, read_state};
use crate::error::{Error, Result};

/// A checkpoint with all digests verified.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its folder.
    pub path: PathBuf,
    /// Its counters.
    pub state: State,
}

/// Verifies every digest of the checkpoint in `path` and reads its counters.
///
/// # Errors
/// Returns [`Error::Damaged`], which names the file and tensor.
pub fn verify(path: &Path) -> Result<Whole> {
    let damaged = |what: String| Error::Damaged { path: path.to_path_buf(), what };
    // A link is followed once, here: what is verified is what is read.
    let path = path.canonicalize().map_err(|error| damaged(error.to_string()))?;
    let path = path.as_path();
    let manifest = Manifest::read(path).map_err(damaged)?;
    manifest.verify(path).map_err(|faults| damaged(faults.join("; ")))?;
    let state = read_state(path).map_err(damaged)?;
    Ok(Whole { path: path.to_path_buf(), state })
}

/// [`verify`] for the checkpoint of `step` under `root`, which must hold that step and no other.
///
/// # Errors
/// See [`verify`].
pub fn verify_step(root: &Path, step: u64) -> Result<Whole> {
    let whole = verify(&root.join(super::folder_name(step)))?;
    if whole.state.step != step {
        let what = format!("it is named after step {step} but holds step {}", whole.state.step);
        return Err(Error::Damaged { path: whole.path, what });
    }
    Ok(whole)
}

/// The newest intact checkpoint under `root`, and what is wrong with each newer one.
///
/// # Errors
/// Returns [`Error::NoCheckpoint`] if none is intact.
pub fn newest(root: &Path) -> Result<(Whole, Vec<Error>)> {
    let mut passed_over = Vec::new();
    for step in super::steps(root).into_iter().rev() {
        match verify_step(root, step) {
            Ok(whole) => return Ok((whole, passed_over)),
            Err(error) => passed_over.push(error),
        }
    }
    let detail = passed_over.iter().map(|error| format!("\n  {error}")).collect::<String>();
    Err(Error::NoCheckpoint { path: root.to_path_buf(), detail })
}

/// Reads the optimizer's tensors of a verified checkpoint.
///
/// # Errors
/// Returns an error if the file can't be read as safetensors.
pub fn tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let file = path.join(STATE_TENSORS);
    Ok(candle_core::safetensors::load(file, device)?.into_iter().collect())
}

/// Checks that a restored training has the digest of its checkpoint.
///
/// # Errors
/// Returns [`Error::Damaged`] if it doesn't.
pub(crate) fn check_digest(found: &str, whole: &Whole) -> Result<()> {
    if found == whole.state.digest {
        return Ok(());
    }
    let what = "the state read back has another digest than the saved one".to_owned();
    Err(Error::Damaged { path: whole.path.clone(), what })
}
