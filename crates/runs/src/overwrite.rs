//! `--overwrite`: keeps the previous run aside until the new one has its first checkpoint.

use std::path::{Path, PathBuf};

use crate::checkpoint::files::Files;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::run_folder::{CONFIG, RunFolder, holds_run};
use crate::teachers::TEACHERS;

/// The subfolder of the run's folder that holds the previous run.
const ASIDE: &str = ".replaced";

/// What a run leaves in its folder, by name or prefix; everything else there is left alone.
const OF_A_RUN: &[&str] = &[
    CONFIG,
    METRICS,
    "events.out.tfevents.",
    "loss.svg",
    "checkpoints",
    "model",
    "doctor",
    "film.jsonl",
    TEACHERS,
    ".tmp-",
];

/// Moves the run in `folder` aside. If a new run ended before its first checkpoint, the run that was moved aside stays
/// and what the new one left is removed.
///
/// # Errors
/// Returns the first file operation that failed. Nothing is lost: each part is in one of the two folders.
pub(crate) fn move_aside(folder: &RunFolder, files: &dyn Files) -> Result<()> {
    let aside = folder.path().join(ASIDE);
    let came_to_nothing = holds_run(&aside).is_some() && folder_has_no_checkpoint(folder);
    for path in parts(folder.path()) {
        if came_to_nothing {
            remove(&path, files)?;
            continue;
        }
        files.create_dir(&aside).map_err(|source| Error::io("create", &aside, source))?;
        let target = aside.join(path.file_name().unwrap_or_default());
        remove(&target, files)?;
        files.rename(&path, &target).map_err(|source| Error::io("rename", &path, source))?;
    }
    files.sync(folder.path()).map_err(|source| Error::io("sync", folder.path(), source))
}

/// Removes the run that was moved aside, once the one that replaces it has a checkpoint.
///
/// # Errors
/// Returns an error if it can't be removed.
pub(crate) fn remove_aside(folder: &RunFolder, files: &dyn Files) -> Result<()> {
    let aside = folder.path().join(ASIDE);
    if !aside.exists() || folder_has_no_checkpoint(folder) {
        return Ok(());
    }
    files.remove_dir(&aside).map_err(|source| Error::io("remove", &aside, source))
}

fn folder_has_no_checkpoint(folder: &RunFolder) -> bool {
    crate::checkpoint::steps(&folder.checkpoints()).is_empty()
}

/// The parts of a run in `dir`.
fn parts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        OF_A_RUN.iter().any(|part| match part.ends_with(['.', '-']) {
            true => name.starts_with(part),
            false => name == *part,
        })
    };
    let mut parts: Vec<PathBuf> = entries.filter(is_part).collect();
    // The checkpoints last: an interrupted move is then never mistaken for a run without a checkpoint.
    parts.sort_by_key(|path| path.ends_with("checkpoints"));
    parts
}

fn remove(path: &Path, files: &dyn Files) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => files.remove_dir(path),
        Ok(_) => std::fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.map_err(|source| Error::io("remove", path, source))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Renames fail after this many.
    struct CutOff(AtomicUsize);

    impl Files for CutOff {
        fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
            match self.0.fetch_sub(1, Ordering::Relaxed) {
                0 => Err(std::io::Error::other("cut off")),
                _ => std::fs::rename(from, to),
            }
        }
    }

    #[test]
    fn an_interrupted_move_loses_nothing() {
        let names = [CONFIG, METRICS, "model/weights", "checkpoints/step-00000003/state"];
        for n_done in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            for name in names {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
            let folder = RunFolder::open(dir.path()).unwrap();
            assert!(move_aside(&folder, &CutOff(AtomicUsize::new(n_done))).is_err());
            move_aside(&folder, &crate::checkpoint::files::Disk).unwrap();
            for name in names {
                let kept = std::fs::read_to_string(dir.path().join(ASIDE).join(name));
                assert_eq!(kept.ok().as_deref(), Some(name), "cut off after {n_done}");
            }
        }
    }
}
