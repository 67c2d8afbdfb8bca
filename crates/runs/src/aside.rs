//! `--overwrite`: the run before stands aside until the new one has its first checkpoint.

use std::path::{Path, PathBuf};

use crate::checkpoint::files::Files;
use crate::error::{Error, Result};
use crate::metrics::METRICS;
use crate::run_folder::{CONFIG, RunFolder, holds_run};

/// Where the run before stands, within the run's folder.
const ASIDE: &str = ".replaced";

/// What a run leaves in its folder, by name or by the beginning of it; all else there belongs to someone else.
const OF_A_RUN: &[&str] = &[
    CONFIG,
    METRICS,
    "events.out.tfevents.",
    "loss.svg",
    "checkpoints",
    "model",
    "doctor",
    "film.jsonl",
    ".tmp-",
];

/// Moves the run that `folder` holds aside; where a new one never came to its first checkpoint, the run before it stays
/// aside and what the new one left is removed.
///
/// # Errors
/// The first file operation that failed. Nothing is lost: each part lies in one of the two places.
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

/// Removes the run that stands aside, now that the one that takes its place has a checkpoint.
///
/// # Errors
/// When it can't be removed.
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

/// The parts of a run that lie in `dir`.
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
    // The checkpoints last: a move that was cut off is then never taken for a run that came to nothing.
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

    /// Renames fail once so many have been done.
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
    fn a_move_that_was_cut_off_anywhere_loses_nothing() {
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
