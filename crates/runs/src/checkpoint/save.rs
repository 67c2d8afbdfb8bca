//! Saves a checkpoint so that it is complete or absent even if the machine stops at any moment.
//!
//! Every file is written to a temporary folder next to the others; each is fsynced; the manifest of digests comes last;
//! the folder is fsynced, renamed, and its parent fsynced. Then it is read back against its manifest. Only then are
//! `latest` and `best` updated and older checkpoints removed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::manifest::Manifest;
use super::state::read_state;
use super::{folder_name, step_of};
use crate::error::{Error, Result};

/// Prefix of temporary folders.
const TEMPORARY: &str = ".tmp-";

/// Saves a folder `name` under `root`; `fill` writes its files (all but the manifest).
///
/// A folder of that name is replaced.
///
/// # Errors
/// Returns the first operation that failed. What existed before is still there and intact.
pub fn save_folder(
    root: &Path,
    name: &str,
    files: &dyn Files,
    fill: &dyn Fn(&Path, &dyn Files) -> Result<()>,
) -> Result<PathBuf> {
    files.create_dir(root).map_err(|source| Error::io("create", root, source))?;
    let temporary = root.join(format!("{TEMPORARY}{name}"));
    files.remove_dir(&temporary).map_err(|source| Error::io("remove", &temporary, source))?;
    let target = root.join(name);
    let saved = fill_and_rename(root, &temporary, &target, files, fill);
    if saved.is_err() {
        // If it can't be removed now, the next run's `clean` removes it.
        let _ = files.remove_dir(&temporary);
    }
    saved.map(|()| target)
}

fn fill_and_rename(
    root: &Path,
    temporary: &Path,
    target: &Path,
    files: &dyn Files,
    fill: &dyn Fn(&Path, &dyn Files) -> Result<()>,
) -> Result<()> {
    let sync = |path: &Path| files.sync(path).map_err(|source| Error::io("sync", path, source));
    files.create_dir(temporary).map_err(|source| Error::io("create", temporary, source))?;
    fill(temporary, files)?;
    let manifest = Manifest::of(temporary).map_err(|source| Error::io("read", temporary, source))?;
    manifest
        .write(temporary, files)
        .map_err(|source| Error::io("write the manifest of", temporary, source))?;
    for name in manifest.files.keys().map(String::as_str).chain([super::manifest::MANIFEST]) {
        sync(&temporary.join(name))?;
    }
    let folders: BTreeSet<&str> =
        manifest.files.keys().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    folders.into_iter().try_for_each(|folder| sync(&temporary.join(folder)))?;
    sync(temporary)?;
    replace(temporary, target, files)?;
    sync(root)?;
    verify_against(&manifest, target)
}

/// Renames `temporary` to `target`; an existing folder is swapped with it and then removed.
fn replace(temporary: &Path, target: &Path, files: &dyn Files) -> Result<()> {
    let rename =
        |from: &Path, to: &Path| files.rename(from, to).map_err(|source| Error::io("rename", from, source));
    if std::fs::symlink_metadata(target).is_err() {
        return rename(temporary, target);
    }
    let remove = |path: &Path| files.remove_dir(path).map_err(|source| Error::io("remove", path, source));
    match files.exchange(temporary, target) {
        Ok(()) => return remove(temporary),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {}
        Err(source) => return Err(Error::io("rename", temporary, source)),
    }
    // A file system without an exchange operation: the old folder is briefly moved aside (see `clean`).
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let aside = target.with_file_name(format!("{TEMPORARY}old-{name}"));
    remove(&aside)?;
    rename(target, &aside)?;
    if let Err(error) = rename(temporary, target) {
        let _ = files.rename(&aside, target);
        return Err(error);
    }
    remove(&aside)
}

/// Reads the folder back: files and manifest must be what was written.
fn verify_against(manifest: &Manifest, dir: &Path) -> Result<()> {
    let damaged = |what: String| Error::Damaged { path: dir.to_path_buf(), what };
    let read = Manifest::read(dir).map_err(damaged)?;
    if read != *manifest {
        return Err(damaged("the manifest read back is not the one that was written".to_owned()));
    }
    read.verify(dir).map_err(|faults| damaged(faults.join("; ")))
}

/// Writes a small file that names a checkpoint (`latest`, `best`) atomically.
///
/// # Errors
/// Returns the first operation that failed; the file is then unchanged.
pub fn point(root: &Path, pointer: &str, name: &str, files: &dyn Files) -> Result<()> {
    let temporary = root.join(format!("{TEMPORARY}{pointer}"));
    let target = root.join(pointer);
    files
        .write(&temporary, format!("{name}\n").as_bytes())
        .map_err(|source| Error::io("write", &temporary, source))?;
    files.sync(&temporary).map_err(|source| Error::io("sync", &temporary, source))?;
    files.rename(&temporary, &target).map_err(|source| Error::io("rename", &temporary, source))?;
    files.sync(root).map_err(|source| Error::io("sync", root, source))
}

/// Removes all checkpoints except the newest `keep_last`, the `keep_best` best ones, and `also`.
///
/// # Errors
/// Returns an error if a folder can't be removed.
pub fn prune(root: &Path, keep_last: usize, keep_best: usize, also: &[u64], files: &dyn Files) -> Result<()> {
    let steps = super::steps(root);
    let mut best: Vec<(f64, u64)> = steps
        .iter()
        .filter_map(|step| {
            let state = read_state(&root.join(folder_name(*step))).ok()?;
            Some((state.val_loss.filter(|loss| loss.is_finite())?, *step))
        })
        .collect();
    // Of equally good ones the earlier wins, as for `best`.
    best.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let newest = steps.iter().rev().take(keep_last);
    let kept: Vec<u64> = newest
        .copied()
        .chain(best.iter().take(keep_best).map(|(_, step)| *step))
        .chain(also.iter().copied())
        .collect();
    for step in steps.iter().filter(|step| !kept.contains(step)) {
        let path = root.join(folder_name(*step));
        // Renamed first, so that a partially removed folder is never mistaken for a checkpoint.
        let aside = root.join(format!("{TEMPORARY}old-{}", folder_name(*step)));
        files.remove_dir(&aside).map_err(|source| Error::io("remove", &aside, source))?;
        files.rename(&path, &aside).map_err(|source| Error::io("rename", &path, source))?;
        files.remove_dir(&aside).map_err(|source| Error::io("remove", &aside, source))?;
    }
    Ok(())
}

/// Removes what an interrupted save left behind; a checkpoint that was moved aside but not replaced is restored.
///
/// # Errors
/// Returns an error if something can't be removed.
pub fn clean(root: &Path, files: &dyn Files) -> Result<()> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(TEMPORARY) else { continue };
        let replaced = rest.strip_prefix("old-").filter(|old| step_of(old).is_some());
        if let Some(target) = replaced.map(|old| root.join(old)).filter(|target| !target.exists())
            && super::load::verify(&path).is_ok()
        {
            files.rename(&path, &target).map_err(|source| Error::io("rename", &path, source))?;
        } else if path.is_dir() {
            files.remove_dir(&path).map_err(|source| Error::io("remove", &path, source))?;
        } else {
            std::fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
        }
    }
    Ok(())
}
