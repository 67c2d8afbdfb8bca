//! The file operations that saving is made of, behind a trait so that tests can make any one of them fail.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What saving asks of a file system.
pub trait Files: Sync {
    /// Makes a folder and those above it, and waits until the name of each new one is on the disk.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let new: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(path)?;
        for parent in new.iter().filter_map(|path| path.parent()) {
            // A relative path of one name has an empty parent.
            self.sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    /// Writes a whole new file.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    /// Called when another writer has written the file at `path`.
    ///
    /// # Errors
    /// The system's.
    fn written(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Waits until a file, or a folder's list of names, is on the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // Some network file systems can't sync a folder; its rename is then as durable as they make it.
            Err(error) if path.is_dir() && error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    /// Gives a file or folder another name.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Swaps two folders in one operation.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] or `InvalidInput` where the file system can't; the system's else.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        exchange(one, other)
    }

    /// Removes a folder with all that is in it; an absent one is no error.
    ///
    /// # Errors
    /// The system's.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Bytes that may still be written below `path`; `None` where the system doesn't say.
    fn free_space(&self, path: &Path) -> Option<u64> {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The file system as it is.
pub struct Disk;

impl Files for Disk {}

#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
