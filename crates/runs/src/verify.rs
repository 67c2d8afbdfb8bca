//! `train --check` (are a run's files intact?) and `train --verify` (does a replay give the same bits?).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use serde::Serialize;
use vulpes_data::{Batches, Rank};
use vulpes_trainer::{State, Training};

use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::{self, folder_name};
use crate::error::{Error, Result};
use crate::failed_step::{self, holds_failed_step};
use crate::metrics::Curves;
use crate::plan::Plan;
use crate::run_folder::{CONFIG, checkpoints};
use crate::same_model::{fault_between, require};
use crate::session::Session;

/// The result of `--check` for one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The folder (or file), relative to the run's.
    pub folder: String,
    /// What is wrong; `None` if it is intact.
    pub fault: Option<String>,
}

/// Checks every checkpoint of the run in `dir`, its model folder, and that its config describes the same model.
///
/// # Errors
/// Returns an error if there is nothing to check.
pub fn check(dir: &Path) -> Result<Vec<Checked>> {
    let root = checkpoints(dir);
    let mut found: Vec<Checked> = checkpoint::steps(&root)
        .into_iter()
        .filter_map(|step| {
            let name = folder_name(step);
            let fault = checkpoint::verify_step(&root, step).err().map(|error| error.to_string());
            // A run in progress may have removed an older one meanwhile.
            let gone = fault.is_some() && root.join(&name).symlink_metadata().is_err();
            (!gone).then(|| Checked { folder: format!("checkpoints/{name}"), fault })
        })
        .collect();
    for pointer in ["latest", "best"] {
        let Ok(name) = std::fs::read_to_string(root.join(pointer)) else { continue };
        let name = name.trim();
        let known = checkpoint::step_of(name).is_some() && root.join(name).is_dir();
        let fault = (!known).then(|| format!("names `{name}`, which does not exist"));
        found.push(Checked { folder: format!("checkpoints/{pointer}"), fault });
    }
    // The config that a run resumes with must be that of its weights.
    if let (Ok(text), Some(newest)) =
        (std::fs::read_to_string(dir.join(CONFIG)), checkpoint::steps(&root).pop())
    {
        let fault = fault_between(&text, &root.join(folder_name(newest)));
        found.push(Checked { folder: CONFIG.to_owned(), fault });
    }
    let model = dir.join("model");
    if model.exists() {
        let verified = Manifest::read(&model)
            .and_then(|manifest| manifest.verify(&model).map_err(|faults| faults.join("; ")));
        found.push(Checked { folder: "model".to_owned(), fault: verified.err() });
    }
    if found.is_empty() {
        return Err(Error::NoCheckpoint { path: dir.to_path_buf(), detail: ": it holds no run".to_owned() });
    }
    Ok(found)
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// The step that the replay began after.
    pub from: u64,
    /// The last step replayed.
    pub to: u64,
    /// The first difference; `None` if every loss, tensor and counter is bit-identical.
    pub difference: Option<String>,
}

/// Replays the steps after `from` up to `to` and compares them with all that the run has written.
///
/// `from` is 0 or the step of a checkpoint (the oldest intact one if `None`); `to` is at most the newest.
///
/// # Errors
/// Returns an error if there is no such checkpoint, or an operation fails.
pub fn verify(plan: &Plan, from: Option<u64>, to: Option<u64>) -> Result<Verified> {
    let root = checkpoints(&plan.run_dir);
    let whole: Vec<u64> = checkpoint::steps(&root)
        .into_iter()
        .filter(|step| checkpoint::verify_step(&root, *step).is_ok())
        .collect();
    let (Some(oldest), Some(newest)) = (whole.first(), whole.last()) else {
        return Err(Error::NoCheckpoint { path: root, detail: String::new() });
    };
    let from = from.unwrap_or(if oldest == newest { 0 } else { *oldest });
    let to = to.unwrap_or(*newest);
    if (from != 0 && !whole.contains(&from)) || to <= from || to > *newest {
        let known: Vec<String> = whole.iter().map(u64::to_string).collect();
        return Err(Error::Usage(format!(
            "--from {from} --to {to}: expected --from 0, {}, and a later --to up to {newest}",
            known.join(", ")
        )));
    }
    require(&plan.sources_of(&root.join(folder_name(*newest))), &plan.model)?;
    let mut session = match from {
        0 => Session::start(plan)?.0,
        from => Session::restore(plan, &checkpoint::verify_step(&root, from)?)?,
    };
    // A cooldown that the clock decided is replayed at the same step.
    if let Some(cooldown) = checkpoint::verify_step(&root, *newest)?.state.cooldown {
        session.training.end(cooldown);
    }
    let difference = replay(&mut session, plan, &root, &whole, to)?;
    Ok(Verified { from, to, difference })
}

fn replay(
    session: &mut Session<'_>,
    plan: &Plan,
    root: &Path,
    whole: &[u64],
    to: u64,
) -> Result<Option<String>> {
    let train = &plan.config.train;
    let curves = Curves::read(&plan.run_dir);
    let by_step = |points: &[(u64, f64)]| points.iter().copied().collect::<BTreeMap<u64, f64>>();
    let (losses, norms) = (by_step(&curves.train), by_step(&curves.grad_norm));
    let cursor = session.training.state.cursor;
    let mut batches = Batches::new(plan.dataset.clone(), cursor, train.batch_rows, Rank::default());
    while session.training.state.step < to {
        let micro = plan.batches_of(session.training.state.step + 1, &mut batches)?;
        let numbers = match session.training.advance(&micro) {
            Ok(numbers) => numbers,
            Err(vulpes_trainer::Error::FailedStep(failed)) => return Ok(Some(failed.to_string())),
            Err(error) => return Err(error.into()),
        };
        session.training.state.cursor = batches.cursor();
        let step = session.training.state.step;
        for (name, found, written) in [
            ("loss", numbers.loss.loss, losses.get(&step)),
            ("grad_norm", numbers.grad_norm, norms.get(&step)),
        ] {
            if let Some(written) = written.filter(|written| written.to_bits() != found.to_bits()) {
                return Ok(Some(format!("step {step}: {name} is {found}, and was {written}")));
            }
        }
        if whole.contains(&step) {
            let saved = Session::restore(plan, &checkpoint::verify_step(root, step)?)?;
            if let Some(message) = first_difference(&session.training, &saved.training)? {
                return Ok(Some(format!("step {step}: {message}")));
            }
        }
    }
    Ok(None)
}

/// The first difference between two trainings at the same step; `None` if they are bit-identical.
pub(crate) fn first_difference(found: &Training, saved: &Training) -> Result<Option<String>> {
    let theirs = saved.tensors()?;
    for (name, tensor) in found.tensors()? {
        let same = theirs.get(&name).map(|other| same_bits(&tensor, other)).transpose()?;
        if same != Some(true) {
            return Ok(Some(format!("tensor `{name}` differs from the checkpoint's")));
        }
    }
    let (a, b): (&State, &State) = (&found.state, &saved.state);
    let same = (a.cursor, a.tokens, a.updates, a.skipped_steps, a.spike, &a.losses)
        == (b.cursor, b.tokens, b.updates, b.skipped_steps, b.spike, &b.losses);
    Ok((!same).then(|| "the counters or the chain of losses differ from the checkpoint's".to_owned()))
}

fn same_bits(one: &Tensor, other: &Tensor) -> candle_core::Result<bool> {
    if one.dims() != other.dims() || one.dtype() != other.dtype() {
        return Ok(false);
    }
    let bits = |tensor: &Tensor| -> candle_core::Result<Vec<u64>> {
        // Every float32 is a float64, so widening keeps distinct bit patterns distinct.
        let values = tensor.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        Ok(values.into_iter().map(f64::to_bits).collect())
    };
    Ok(bits(one)? == bits(other)?)
}

/// The folder whose tokenizer a replay in `dir` uses: the oldest checkpoint's.
pub fn tokenizer_folder(dir: &Path) -> Option<std::path::PathBuf> {
    if holds_failed_step(dir) {
        return Some(failed_step::before(dir));
    }
    let root = checkpoints(dir);
    checkpoint::steps(&root).first().map(|step| root.join(folder_name(*step)))
}
