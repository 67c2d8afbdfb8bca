//! `manifest.json`: the files of a corpus in the cache, with their digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::corpus::digest_of;
use crate::store::{Built, Column, Finished, Made, MadeSet, PER_SHARD, Store, Width};
use crate::{Error, Result};

const NAME: &str = "manifest.json";

/// What a corpus consists of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    sets: [Set; 2],
    labels: Vec<String>,
    n_documents: u64,
    first_len: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Set {
    tokens: Files,
    ends: Files,
    labels: Option<Files>,
    seconds: Option<Files>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Files {
    width: Width,
    per_shard: u64,
    files: Vec<FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileEntry {
    name: String,
    len: u64,
    blake3: String,
    /// The time of the last write, in nanoseconds: while it stays, the bytes need no new look.
    modified: Option<String>,
}

impl Manifest {
    /// Writes the manifest of files that are complete.
    pub(super) fn write(made: &Made, folder: &Path) -> Result<()> {
        let manifest = Self {
            sets: [Set::of(&made.sets[0], folder), Set::of(&made.sets[1], folder)],
            labels: made.labels.clone(),
            n_documents: made.n_documents,
            first_len: made.first_len,
        };
        let path = folder.join(NAME);
        let wrong = |source| Error::cache(&path, source);
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| wrong(error.into()))?;
        fs::write(&path, bytes).map_err(wrong)?;
        fs::File::open(&path).and_then(|file| file.sync_all()).map_err(wrong)
    }

    /// The corpus in a folder.
    ///
    /// # Errors
    /// Where there is none, or a file in it is not what was written.
    pub(super) fn open(folder: &Path) -> Result<Built> {
        let path = folder.join(NAME);
        let bytes = fs::read(&path).map_err(|source| Error::read(&path, source))?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Changed { path: path.clone(), message: error.to_string() })?;
        let [train, validation] = manifest.sets.map(|set| set.open(folder));
        Ok(Built {
            train: train?,
            validation: validation?,
            labels: manifest.labels,
            n_documents: manifest.n_documents,
            first_len: manifest.first_len,
        })
    }
}

impl Set {
    fn of(made: &MadeSet, folder: &Path) -> Self {
        Self {
            tokens: Files::of(&made.tokens, folder),
            ends: Files::of(&made.ends, folder),
            labels: made.labels.as_ref().map(|column| Files::of(column, folder)),
            seconds: made.seconds.as_ref().map(|column| Files::of(column, folder)),
        }
    }

    fn open(&self, folder: &Path) -> Result<Store> {
        Ok(Store {
            tokens: self.tokens.open(folder)?,
            ends: self.ends.open(folder)?,
            labels: self.labels.as_ref().map(|files| files.open(folder)).transpose()?,
            seconds: self.seconds.as_ref().map(|files| files.open(folder)).transpose()?,
        })
    }
}

impl Files {
    fn of(column: &Finished, folder: &Path) -> Self {
        let (width, written) = match column {
            Finished::Files { width, files } => (*width, files.as_slice()),
            Finished::Column(_) => (Width::U64, &[][..]),
        };
        let files = written
            .iter()
            .map(|file| FileEntry {
                name: file.name.clone(),
                len: file.len,
                blake3: file.digest.to_hex().to_string(),
                modified: modified(&folder.join(&file.name)),
            })
            .collect();
        Self { width, per_shard: PER_SHARD, files }
    }

    fn open(&self, folder: &Path) -> Result<Column> {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| folder.join(&file.name)).collect();
        for (file, path) in self.files.iter().zip(&paths) {
            let meta = fs::metadata(path).map_err(|source| Error::read(path, source))?;
            let changed = |message: String| Error::Changed { path: path.clone(), message };
            if meta.len() != file.len {
                return Err(changed(format!(
                    "it was written with {} bytes and has {}",
                    file.len,
                    meta.len()
                )));
            }
            let same_time = file.modified.is_some() && modified(path) == file.modified;
            if !same_time && digest_of(path)?.to_hex().as_str() != file.blake3 {
                return Err(changed("its bytes are not those that were written".into()));
            }
        }
        Column::mapped(self.width, self.per_shard, &paths)
    }
}

fn modified(path: &Path) -> Option<String> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_nanos().to_string())
}
