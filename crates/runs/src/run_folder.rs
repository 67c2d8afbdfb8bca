//! `runs/NAME/`: the files of a run, and the lock that keeps it from being overwritten by accident.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::checkpoint::{
    self,
    files::{Disk, Files},
};
use crate::error::{Error, Result};
use crate::human::duration;
use crate::metrics::METRICS;

/// The file name of the resolved config.
pub(crate) const CONFIG: &str = "config.toml";

const LOCK: &str = ".lock";

/// A run's folder, locked by this process.
pub(crate) struct RunFolder {
    path: PathBuf,
    lock: File,
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Explicitly: closing the file isn't enough while a child process being started still has a copy of it.
        let _ = self.lock.unlock();
    }
}

impl RunFolder {
    /// Creates the folder if it doesn't exist, and locks it.
    ///
    /// # Errors
    /// Returns [`Error::Locked`] if another process uses it, and names that process.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Disk.create_dir(path).map_err(|source| Error::io("create", path, source))?;
        let lock_path = path.join(LOCK);
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let mut lock = open.map_err(|source| Error::io("open", &lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                return Err(Error::Locked { path: path.to_path_buf(), holder: described(&holder) });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &lock_path, source)),
        }
        // The process id, and the start time in seconds since 1970.
        let holder = format!("{} {}\n", std::process::id(), unix_secs() as u64);
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(holder.as_bytes()));
        // The holder's name is optional: a full disk must not keep a run from starting.
        let _ = written;
        Ok(Self { path: path.to_path_buf(), lock })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of checkpoints.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        checkpoints(&self.path)
    }
}

/// Describes the lock's holder, from what it wrote into the lock file.
fn described(holder: &str) -> String {
    let mut numbers = holder.split_whitespace().map_while(|number| number.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(process), Some(since)) => {
            let age = Duration::from_secs((unix_secs() as u64).saturating_sub(since));
            format!("process {process}, started {} ago", duration(age))
        }
        _ => "another process".to_owned(),
    }
}

/// The checkpoints' folder of the run in `path`.
pub(crate) fn checkpoints(path: &Path) -> PathBuf {
    path.join("checkpoints")
}

/// Describes the run in a folder; `None` if there is none.
pub(crate) fn holds_run(path: &Path) -> Option<String> {
    let steps = checkpoint::steps(&checkpoints(path));
    if let Some(last) = steps.last() {
        return Some(format!(", up to step {last}"));
    }
    let begun = [CONFIG, METRICS, "model"].iter().any(|name| path.join(name).exists());
    begun.then(|| ", without a checkpoint yet".to_owned())
}

/// Seconds since 1970.
pub(crate) fn unix_secs() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/a");
        let first = RunFolder::open(&path).unwrap();
        let error = RunFolder::open(&path).err().unwrap().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(first);
        assert!(RunFolder::open(&path).is_ok());
        assert_eq!(holds_run(&path), None);
        std::fs::write(path.join(CONFIG), "").unwrap();
        assert!(holds_run(&path).is_some());
    }
}
