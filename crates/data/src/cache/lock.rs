//! A lock on an entry of the cache: a file that one process holds at a time, removed on release.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A lock that this process holds until it is dropped.
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    held: bool,
}

impl Lock {
    /// Waits until no other process works on `name`; calls `waits` before it waits, if it must.
    ///
    /// Some network file systems have no locks. There the lock is not held; the atomic rename at the end of a build
    /// still keeps concurrent builds apart.
    ///
    /// # Errors
    /// Returns an error if the folder can't be written.
    pub(super) fn wait(folder: &Path, name: &str, waits: &dyn Fn()) -> Result<Self> {
        let path = path(folder, name);
        loop {
            let file = File::create(&path).map_err(|source| Error::cache(&path, source))?;
            let held = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => {
                    waits();
                    file.lock().is_ok()
                }
                Err(TryLockError::Error(_)) => false,
            };
            // The previous holder removed the file: a third process would lock a new one.
            if !held || is_at(&file, &path) {
                return Ok(Self { file, path, held });
            }
        }
    }

    /// The lock on `name`, if it is free.
    pub(super) fn try_now(folder: &Path, name: &str) -> Option<Self> {
        let path = path(folder, name);
        let file = File::create(&path).ok()?;
        let held = file.try_lock().is_ok() && is_at(&file, &path);
        held.then_some(Self { file, path, held })
    }

    /// Whether no other process can hold it.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before it is released, so that no process locks a file that is about to be removed.
        if self.held && cfg!(unix) {
            fs::remove_file(&self.path).ok();
        }
        self.file.unlock().ok();
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(".lock-{name}"))
}

/// Whether the open file is the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(open), Ok(there)) if open == there)
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_exclusive_and_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, most) = (std::sync::atomic::AtomicU32::new(0), std::sync::atomic::AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::wait(folder.path(), "a", &|| ()).unwrap();
                        assert!(lock.is_held() && Lock::try_now(folder.path(), "a").is_none());
                        let now = 1 + inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        most.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
