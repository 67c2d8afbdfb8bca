//! How a run begins: from scratch, or from its newest intact checkpoint.

use std::path::Path;

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, Whole};
use crate::error::{Error, Result, agreed};
use crate::overwrite::move_aside;
use crate::plan::Plan;
use crate::resume;
use crate::run_folder::{CONFIG, RunFolder, holds_run};
use crate::session::Session;

/// How a run is started and observed.
pub struct FitOptions<'a> {
    /// Resume from the newest intact checkpoint, if there is a run.
    pub resume: bool,
    /// Replace the run in the folder: it is kept aside until the new one has its first checkpoint.
    pub overwrite: bool,
    /// Keys set on the command line; a resumed run accepts them even if they differ from before.
    pub explicit: Vec<String>,
    /// Called after every step: whether to stop, and with which exit code.
    pub stop: &'a dyn Fn(u64) -> Option<u8>,
    /// The file operations of saving.
    pub files: &'a dyn Files,
}

/// Messages about where a run comes from.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) told: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Finds where a run begins: at an intact checkpoint, or from scratch if there is none. With several processes, the
/// first one decides.
///
/// # Errors
/// Returns an error if the checkpoints are damaged, or the config or the corpus changed.
pub(crate) fn find(
    plan: &Plan,
    folder: &RunFolder,
    options: &FitOptions<'_>,
) -> Result<(Option<Whole>, Notes)> {
    let root = folder.checkpoints();
    checkpoint::clean(&root, options.files)?;
    let mut notes = Notes::default();
    if options.overwrite && holds_run(folder.path()).is_some() {
        move_aside(folder, options.files)?;
        notes.told.push(format!(
            "the run in {} is kept aside until this one has its first checkpoint",
            folder.path().display()
        ));
    }
    let has_weights = !checkpoint::steps(&root).is_empty();
    let changes = match options.resume && holds_run(folder.path()).is_some() {
        true => resume::changes(folder.path(), &plan.config, &options.explicit, has_weights)?,
        false => Vec::new(),
    };
    notes.told.extend(changes.iter().map(|change| format!("changed since the run began: {change}")));
    if !has_weights {
        if options.resume {
            let what = if holds_run(folder.path()).is_some() { "no checkpoint" } else { "no run" };
            notes
                .told
                .push(format!("{what} in {} yet: starting from the beginning", folder.path().display()));
        }
        return Ok((None, notes));
    }
    let (mut whole, passed_over) = checkpoint::newest(&root)?;
    notes.warnings.extend(passed_over.iter().map(|error| format!("{error}; the one before it is used")));
    notes.told.push(format!("resuming after step {}", whole.state.step));
    let mark = plan.data_mark()?;
    if whole.state.data != mark {
        let insisted = options.explicit.iter().any(|key| key.starts_with("data."));
        if !insisted && !changes.iter().any(resume::Change::decides_rows) {
            let changes =
                "  the corpus: its size or rows differ\nrestore it, or accept it with --set data.train=…";
            return Err(Error::ConfigChanged {
                path: folder.path().to_path_buf(),
                changes: changes.to_owned(),
            });
        }
        notes.told.push("changed since the run began: the rows".to_owned());
        whole.state.data = mark;
    }
    Ok((Some(whole), notes))
}

/// Opens the run on every process at the checkpoint that the first one found; returns it with the warnings.
///
/// # Errors
/// Returns an error if the model can't be created or read on one of them.
pub(crate) fn open<'a>(plan: &'a Plan, found: Option<&Whole>) -> Result<(Session<'a>, Vec<String>)> {
    let processes = &plan.processes;
    let told = match found {
        None => Vec::new(),
        Some(whole) => serde_json::to_vec(&(&whole.path, &whole.state)).map_err(std::io::Error::other)?,
    };
    let told = processes.from_first(&told)?;
    if told.is_empty() {
        return agreed(processes, Session::start(plan));
    }
    let (path, state) = serde_json::from_slice(&told).map_err(std::io::Error::other)?;
    let whole = match found {
        Some(whole) => whole.clone(),
        None => Whole { path, state },
    };
    Ok((Session::restore(plan, &whole)?, Vec::new()))
}

/// Writes the resolved config atomically.
pub(crate) fn write_config(dir: &Path, plan: &Plan, files: &dyn Files) -> Result<()> {
    let text = plan
        .config
        .to_toml()
        .map_err(|error| Error::Usage(format!("the config can't be written as TOML: {error}")))?;
    let (temporary, target) = (dir.join(".tmp-config"), dir.join(CONFIG));
    let written = files.replace(&temporary, &target, text.as_bytes());
    written.map_err(|source| Error::io("write", &target, source))
}
