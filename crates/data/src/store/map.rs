//! A memory-mapped file that is checked for changes.
#![allow(unsafe_code)]

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// A memory-mapped file.
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    file: File,
    map: Mmap,
    modified: Option<SystemTime>,
}

impl Mapped {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::read(path, source))?;
        let meta = file.metadata().map_err(|source| Error::read(path, source))?;
        // SAFETY: the file is in a cache folder that only this library writes to, and each file is written once,
        // under another name, before it is opened. `check` detects if another program truncated or wrote it.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::read(path, source))?;
        Ok(Self { path: path.into(), file, map, modified: meta.modified().ok() })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Checks that the file is the same as when it was mapped.
    ///
    /// # Errors
    /// Returns an error if it was truncated, written to, replaced or removed: reading a truncated file would end the
    /// process.
    pub(crate) fn check(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|source| Error::read(&self.path, source))?;
        let message = if now.len() != self.map.len() as u64 {
            format!("it had {} bytes and now has {}", self.map.len(), now.len())
        } else if now.modified().ok() != self.modified {
            "it was written to".to_owned()
        } else if n_links(&now) == 0 {
            "it was removed or replaced".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Changed { path: self.path.clone(), message })
    }
}

#[cfg(unix)]
fn n_links(meta: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(meta)
}

#[cfg(not(unix))]
fn n_links(_: &Metadata) -> u64 {
    1
}
