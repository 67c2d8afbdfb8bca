//! How a run begins: anew, or at its newest whole checkpoint.

use std::path::Path;

use crate::aside::move_aside;
use crate::checkpoint;
use crate::checkpoint::files::Files;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::resume;
use crate::run_folder::{CONFIG, RunFolder, holds_run};
use crate::session::Session;

/// How a run is begun and watched.
pub struct FitOptions<'a> {
    /// Go on from the newest whole checkpoint, if there is a run.
    pub resume: bool,
    /// Begin anew in a folder that holds a run: that run stands aside until the new one has its first checkpoint.
    pub overwrite: bool,
    /// Keys that the command line sets, which a resumed run takes over whatever they were.
    pub explicit: Vec<String>,
    /// Asked after every step whether to stop, and with which exit code.
    pub stop: &'a dyn Fn(u64) -> Option<u8>,
    /// The file operations of saving.
    pub files: &'a dyn Files,
}

/// What there is to say about where a run comes from.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) told: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// The run before its next step.
pub(crate) fn begin<'a>(
    plan: &'a Plan,
    folder: &RunFolder,
    options: &FitOptions<'_>,
) -> Result<(Session<'a>, Notes)> {
    let root = folder.checkpoints();
    checkpoint::clean(&root, options.files)?;
    let mut notes = Notes::default();
    if options.overwrite && holds_run(folder.path()).is_some() {
        move_aside(folder, options.files)?;
        notes.told.push(format!(
            "the run that {} holds stands aside until this one has its first checkpoint",
            folder.path().display()
        ));
    }
    let has_weights = !checkpoint::steps(&root).is_empty();
    let changes = match options.resume && holds_run(folder.path()).is_some() {
        true => resume::changes(folder.path(), &plan.config, &options.explicit, has_weights)?,
        false => Vec::new(),
    };
    notes.told.extend(changes.iter().map(|change| format!("changed since the run began: {change}")));
    let session = if !has_weights {
        if options.resume {
            let what = if holds_run(folder.path()).is_some() { "no checkpoint" } else { "no run" };
            notes
                .told
                .push(format!("{what} in {} yet: starting from the beginning", folder.path().display()));
        }
        let (session, warnings) = Session::start(plan)?;
        notes.warnings.extend(warnings);
        session
    } else {
        let (mut whole, passed_over) = checkpoint::newest(&root)?;
        notes.warnings.extend(passed_over.iter().map(|error| format!("{error}; the one before it is used")));
        notes.told.push(format!("resuming after step {}", whole.state.step));
        let mark = plan.data_mark()?;
        if whole.state.data != mark {
            let insisted = options.explicit.iter().any(|key| key.starts_with("data."));
            if !insisted && !changes.iter().any(resume::Change::decides_rows) {
                let changes = "  the corpus itself: its sizes or rows are others\nput it back, or insist with --set data.train=…";
                return Err(Error::ConfigChanged {
                    path: folder.path().to_path_buf(),
                    changes: changes.to_owned(),
                });
            }
            notes.told.push("changed since the run began: the rows".to_owned());
            whole.state.data = mark;
        }
        Session::restore(plan, &whole)?
    };
    write_config(folder.path(), plan, options.files)?;
    Ok((session, notes))
}

/// Writes the resolved config, whole or not at all.
fn write_config(dir: &Path, plan: &Plan, files: &dyn Files) -> Result<()> {
    let text = plan
        .config
        .to_toml()
        .map_err(|error| Error::Usage(format!("the config has no TOML form: {error}")))?;
    let (temporary, target) = (dir.join(".tmp-config"), dir.join(CONFIG));
    let written = files
        .write(&temporary, text.as_bytes())
        .and_then(|()| files.sync(&temporary))
        .and_then(|()| files.rename(&temporary, &target))
        .and_then(|()| files.sync(dir));
    written.map_err(|source| Error::io("write", &target, source))
}
