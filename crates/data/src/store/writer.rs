//! Columns under construction: in memory, or written directly to shard files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::column::{Column, Width};
use crate::error::{Error, Result};

/// How many integers a shard file holds.
pub(crate) const PER_SHARD: u64 = 1 << 26;

/// The destination of a column.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Memory,
    Folder(PathBuf),
}

/// A complete shard file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) len: u64,
    pub(crate) digest: blake3::Hash,
}

/// A column under construction.
pub(crate) struct Writer {
    width: Width,
    name: String,
    target: Target,
    /// Integers that are not in a file yet.
    bytes: Vec<u8>,
    open: Option<Open>,
    written: Vec<Written>,
    n: u64,
}

/// The shard file being written.
struct Open {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    n: u64,
}

/// How many bytes are buffered before they are written.
const BUFFER: usize = 1 << 16;

impl Writer {
    pub(crate) fn new(width: Width, name: String, target: &Target) -> Self {
        Self { width, name, target: target.clone(), bytes: vec![], open: None, written: vec![], n: 0 }
    }

    /// The number of integers.
    pub(crate) fn len(&self) -> u64 {
        self.n
    }

    pub(crate) fn push(&mut self, numbers: impl ExactSizeIterator<Item = u64>) -> Result<()> {
        self.n += numbers.len() as u64;
        self.width.write(numbers, &mut self.bytes);
        match (&self.target, self.bytes.len() >= BUFFER) {
            (Target::Folder(_), true) => self.flush(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let Target::Folder(folder) = self.target.clone() else { return Ok(()) };
        let width = self.width.bytes() as u64;
        let mut at = 0;
        while at < self.bytes.len() {
            let open = match &mut self.open {
                Some(open) => open,
                none => {
                    let path = folder.join(format!("{}-{:05}.bin", self.name, self.written.len()));
                    let file = File::create(&path).map_err(|source| Error::cache(&path, source))?;
                    let file = BufWriter::with_capacity(1 << 20, file);
                    none.insert(Open { path, file, hasher: blake3::Hasher::new(), n: 0 })
                }
            };
            let room = (PER_SHARD - open.n) * width;
            let end = self.bytes.len().min(at + room as usize);
            let part = &self.bytes[at..end];
            open.file.write_all(part).map_err(|source| Error::cache(&open.path, source))?;
            open.hasher.update(part);
            open.n += part.len() as u64 / width;
            at = end;
            if open.n == PER_SHARD {
                self.close()?;
            }
        }
        self.bytes.clear();
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let wrong = |source| Error::cache(&open.path, source);
        let file = open.file.into_inner().map_err(|error| wrong(error.into_error()))?;
        file.sync_all().map_err(wrong)?;
        let name = open.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let len = open.n * self.width.bytes() as u64;
        self.written.push(Written { name, len, digest: open.hasher.finalize() });
        Ok(())
    }

    /// The column or, for files, what was written.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        match self.target {
            Target::Memory => Ok(Finished::Column(Column::in_memory(self.width, self.bytes))),
            Target::Folder(_) => {
                self.flush()?;
                self.close()?;
                Ok(Finished::Files { width: self.width, files: self.written })
            }
        }
    }
}

/// A complete column.
pub(crate) enum Finished {
    Column(Column),
    Files { width: Width, files: Vec<Written> },
}
