//! The file operations of saving, behind a trait so that tests can make each of them fail.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The file operations of saving.
pub trait Files: Sync {
    /// Creates a folder and its parents, and syncs the name of each new one to the disk.
    ///
    /// # Errors
    /// Returns the system's error.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let new: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(path)?;
        for parent in new.iter().filter_map(|path| path.parent()) {
            // A relative path of one name has an empty parent.
            self.sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// Returns the system's error.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        File::create(path)?.write_all(bytes)
    }

    /// Called after other code wrote the file at `path`.
    ///
    /// # Errors
    /// Returns the system's error.
    fn written(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Syncs a file, or a folder's list of names, to the disk.
    ///
    /// # Errors
    /// Returns the system's error.
    fn sync(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // Some network file systems can't sync a folder; a rename is then as durable as they make it.
            Err(error) if path.is_dir() && error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    /// Renames a file or folder.
    ///
    /// # Errors
    /// Returns the system's error.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Writes the file `path` by atomic rename of `temporary` in the same folder: at any moment it is the complete old
    /// file or the complete new one.
    ///
    /// # Errors
    /// Returns the system's error; the file is then unchanged.
    fn replace(&self, temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write(temporary, bytes)?;
        self.sync(temporary)?;
        self.rename(temporary, path)?;
        path.parent().map_or(Ok(()), |dir| self.sync(dir))
    }

    /// Swaps two folders in one operation.
    ///
    /// # Errors
    /// Returns [`io::ErrorKind::Unsupported`] or `InvalidInput` if the file system can't do it, else the system's
    /// error.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        exchange(one, other)
    }

    /// Removes a folder and its contents; an absent one is no error.
    ///
    /// # Errors
    /// Returns the system's error.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Bytes that may still be written below `path`; `None` if unknown.
    fn free_space(&self, path: &Path) -> Option<u64> {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The real file system.
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
