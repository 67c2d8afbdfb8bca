//! `manifest.json`: the files of a corpus in the cache, with their digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::corpus::digest_of;
use crate::error::{Error, Result};
use crate::store::{Built, Column, Finished, Made, MadeSet, PER_SHARD, Store, Width};

const NAME: &str = "manifest.json";

/// The files of a corpus.
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
    #[serde(rename = "seconds")]
    pair_starts: Option<Files>,
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
    /// The times of the last write and of the last change of any kind: while they are the same, the bytes aren't read
    /// again.
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
        manifest.save(folder).map_err(|source| Error::cache(&folder.join(NAME), source))
    }

    fn save(&self, folder: &Path) -> std::io::Result<()> {
        super::write(folder, &folder.join(NAME), &serde_json::to_vec_pretty(self)?)
    }

    /// Opens the corpus in a folder.
    ///
    /// # Errors
    /// Returns an error if there is none, or a file in it is not what was written.
    pub(super) fn open(folder: &Path) -> Result<Built> {
        let path = folder.join(NAME);
        let bytes = fs::read(&path).map_err(|source| Error::read(&path, source))?;
        let mut manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Changed { path: path.clone(), message: error.to_string() })?;
        let mut looked = false;
        let [train, validation] = &mut manifest.sets;
        let (train, validation) = (train.open(folder, &mut looked)?, validation.open(folder, &mut looked)?);
        if looked {
            // A copied cache has new times. If it can't be written, the next start checks the bytes again.
            manifest.save(folder).ok();
        }
        Ok(Built {
            train,
            validation,
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
            pair_starts: made.pair_starts.as_ref().map(|column| Files::of(column, folder)),
        }
    }

    /// `looked` is set if the times differ and the bytes had to be read.
    fn open(&mut self, folder: &Path, looked: &mut bool) -> Result<Store> {
        Ok(Store {
            tokens: self.tokens.open(folder, looked)?,
            ends: self.ends.open(folder, looked)?,
            labels: self.labels.as_mut().map(|files| files.open(folder, looked)).transpose()?,
            pair_starts: self.pair_starts.as_mut().map(|files| files.open(folder, looked)).transpose()?,
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

    fn open(&mut self, folder: &Path, looked: &mut bool) -> Result<Column> {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| folder.join(&file.name)).collect();
        for (file, path) in self.files.iter_mut().zip(&paths) {
            let meta = fs::metadata(path).map_err(|source| Error::read(path, source))?;
            let changed = |message: String| Error::Changed { path: path.clone(), message };
            if meta.len() != file.len {
                return Err(changed(format!(
                    "it was written with {} bytes and now has {}",
                    file.len,
                    meta.len()
                )));
            }
            let now = modified(path);
            if now.is_none() || now != file.modified {
                if digest_of(path)?.to_hex().as_str() != file.blake3 {
                    return Err(changed("its bytes are not those that were written".into()));
                }
                (file.modified, *looked) = (now, true);
            }
        }
        Column::mapped(self.width, self.per_shard, &paths)
    }
}

/// A file's times. The time of the last write can be set by anybody (`touch`, `cp -p`), the other can't.
fn modified(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    let written = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    #[cfg(unix)]
    let written = {
        use std::os::unix::fs::MetadataExt;
        format!("{written} {}.{:09}", meta.ctime(), meta.ctime_nsec())
    };
    Some(written.to_string())
}
