//! Failed steps: kept on disk in a form that reproduces the failure.
//!
//! `doctor/step-N/` holds the state before the step as a checkpoint, `batch.json` with the step's rows, `config.toml`,
//! and `report.json`: the finding, the first operation whose result is not finite, and the command that replays the
//! step.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use vulpes_data::Batch;
use vulpes_trainer::{FailedStep, first_not_finite};

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, folder_name};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::run_folder::CONFIG;
use crate::session::{Collected, Session};
use crate::shell::quoted;

const BATCH: &str = "batch.json";
const REPORT: &str = "report.json";
/// The checkpoint within the folder.
const BEFORE: &str = "before";

/// One micro-batch in `batch.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    rows: usize,
    len: usize,
    ids: Vec<u32>,
    targets: Vec<i64>,
    #[serde(rename = "keep")]
    padding_mask: Option<Vec<u8>>,
    token_types: Option<Vec<u32>>,
    segments: Option<Vec<u32>>,
    positions: Option<Vec<u32>>,
    first_row: u64,
}

impl From<&Batch> for Stored {
    fn from(batch: &Batch) -> Self {
        Self {
            rows: batch.rows,
            len: batch.len,
            ids: batch.ids.clone(),
            targets: batch.targets.clone(),
            padding_mask: batch.padding_mask.as_ref().map(|mask| mask.to_vec()),
            token_types: batch.token_types.clone(),
            segments: batch.segments.as_ref().map(|segments| segments.to_vec()),
            positions: batch.positions.clone(),
            first_row: batch.first_row,
        }
    }
}

impl Stored {
    /// The batch, if its parts have the lengths that its rows imply.
    fn batch(self) -> std::result::Result<Batch, String> {
        let stored = self;
        let places = stored.rows.checked_mul(stored.len).filter(|places| *places > 0);
        let fits = |what: &str, length: Option<usize>| match (length, places) {
            (None, Some(_)) => Ok(()),
            (Some(length), Some(places)) if length == places => Ok(()),
            _ => Err(format!("{what} doesn't have {} rows of {}", stored.rows, stored.len)),
        };
        fits("ids", Some(stored.ids.len()))?;
        if stored.targets.len() != stored.rows {
            fits("targets", Some(stored.targets.len()))?;
        }
        fits("keep", stored.padding_mask.as_ref().map(Vec::len))?;
        fits("token_types", stored.token_types.as_ref().map(Vec::len))?;
        fits("segments", stored.segments.as_ref().map(Vec::len))?;
        fits("positions", stored.positions.as_ref().map(Vec::len))?;
        Ok(Batch {
            rows: stored.rows,
            len: stored.len,
            ids: stored.ids,
            targets: stored.targets,
            padding_mask: stored.padding_mask.map(Into::into),
            token_types: stored.token_types,
            segments: stored.segments.map(Into::into),
            positions: stored.positions,
            first_row: stored.first_row,
        })
    }
}

/// Keeps the failed step of `session` under `run/doctor/` and returns the error that ends the run; with several
/// processes the first writes it, and all take part in collecting it.
pub(crate) fn save(
    session: &mut Session<'_>,
    failed: &FailedStep,
    batches: &[Batch],
    run: &Path,
    files: &dyn Files,
) -> Error {
    let collected = match session.collect() {
        Ok(collected) if session.training.processes().is_first() => collected,
        Ok(_) => return Error::Numbers(failed.to_string()),
        Err(error) => return error,
    };
    let step = session.training.state.step + 1;
    let place = match first_not_finite(session.training.trained(), batches) {
        Ok(Some(place)) => format!("; first not finite: {place}"),
        Ok(None) => String::new(),
        Err(error) => format!("; the search for the first such value failed: {error}"),
    };
    let message = format!("{failed}{place}");
    let dir = run.join("doctor").join(folder_name(step));
    let kept = write((session, &collected), failed, &message, batches, &dir, files);
    Error::Numbers(match kept {
        Ok(()) => format!("{message}\nreplay the step with: {}", command(&dir)),
        Err(error) => format!("{message}\n(its state could not be kept: {error})"),
    })
}

/// The command that replays the step in `dir`.
fn command(dir: &Path) -> String {
    format!("train --verify {}", quoted(&dir.display().to_string()))
}

fn write(
    (session, collected): (&Session<'_>, &Collected),
    failed: &FailedStep,
    message: &str,
    batches: &[Batch],
    dir: &Path,
    files: &dyn Files,
) -> Result<()> {
    session.save(collected, dir, BEFORE, files)?;
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        let written = files.write(&path, bytes).and_then(|()| files.sync(&path));
        written.map_err(|source| Error::io("write", &path, source))
    };
    let stored: Vec<Stored> = batches.iter().map(Stored::from).collect();
    let text =
        serde_json::to_vec(&stored).map_err(|error| Error::io("write", dir, std::io::Error::other(error)))?;
    write(BATCH, &text)?;
    let config = session.plan().config.to_toml();
    write(CONFIG, config.map_err(|error| Error::Usage(error.to_string()))?.as_bytes())?;
    let report = json!({
        "step": session.training.state.step + 1,
        "found": message,
        "parameters": failed.parameters(),
        "replay": command(dir),
    });
    write(REPORT, format!("{report:#}\n").as_bytes())
}

/// Whether `dir` holds a failed step and not a run.
pub fn holds_failed_step(dir: &Path) -> bool {
    dir.join(BATCH).is_file() && dir.join(BEFORE).is_dir()
}

/// The checkpoint folder of a failed step in `dir`.
pub(crate) fn before(dir: &Path) -> PathBuf {
    dir.join(BEFORE)
}

/// Replays the failed step kept in `dir`; returns its failure, or `None` if it now succeeds.
///
/// # Errors
/// Returns an error if the folder is damaged.
pub fn replay_failed_step(plan: &Plan, dir: &Path) -> Result<Option<String>> {
    let whole = checkpoint::verify(&before(dir))?;
    let path = dir.join(BATCH);
    let text = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
    let damaged = |what: String| Error::Damaged { path: dir.to_path_buf(), what: format!("{BATCH}: {what}") };
    let stored: Vec<Stored> = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let batches: std::result::Result<Vec<Batch>, String> = stored.into_iter().map(Stored::batch).collect();
    let batches = batches.map_err(damaged)?;
    if batches.is_empty() {
        return Err(damaged("holds no rows".to_owned()));
    }
    let mut session = Session::restore(plan, &whole)?;
    match session.training.advance(&batches) {
        Ok(_) => Ok(None),
        Err(vulpes_trainer::Error::FailedStep(failed)) => {
            let place = first_not_finite(session.training.trained(), &batches)?;
            let place = place.map(|place| format!("; first not finite: {place}"));
            Ok(Some(format!("{failed}{}", place.unwrap_or_default())))
        }
        Err(error) => Err(error.into()),
    }
}
