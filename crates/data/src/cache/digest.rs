//! Digests of files and settings: the names of what is in the cache.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Cache;
use crate::corpus::{Source, Sources};
use crate::progress::{Progress, Stage};
use crate::{Error, Result};

/// The version of the folder's layout and of all that decides what tokens a text becomes.
const FORMAT: u32 = 1;

/// A digest that grows by what goes into an entry of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Key(blake3::Hasher);

impl Key {
    pub(crate) fn new(purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&FORMAT.to_le_bytes()).update(purpose.as_bytes());
        Self(hasher)
    }

    /// Adds a setting.
    pub(crate) fn with(mut self, name: &str, value: &impl Serialize) -> Result<Self> {
        let value = serde_json::to_vec(value)
            .map_err(|error| Error::config(name, format!("cannot be part of a cache's name: {error}")))?;
        self.bytes(name.as_bytes());
        self.bytes(&value);
        Ok(self)
    }

    /// Adds the content of files, in their order.
    pub(crate) fn with_files(mut self, digests: &[blake3::Hash]) -> Self {
        self.bytes(b"files");
        digests.iter().for_each(|digest| self.bytes(digest.as_bytes()));
        self
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }

    pub(super) fn hex(&self) -> String {
        self.0.finalize().to_hex()[..32].to_owned()
    }
}

/// A file written this lately may be written once more within the resolution of its time.
const SETTLED: Duration = Duration::from_secs(3);

impl Cache {
    /// The digests of files. A file whose path, length and time were seen before is not read again.
    pub(crate) fn digests(&self, sources: &Sources, progress: &dyn Progress) -> Result<Vec<blake3::Hash>> {
        let total = sources.n_bytes();
        let mut done = 0;
        let mut digests = Vec::with_capacity(sources.files.len());
        let mut told = false;
        for source in &sources.files {
            let record = self.record(source);
            let known = record
                .as_ref()
                .and_then(|record| blake3::Hash::from_hex(fs::read(self.folder.join(record)).ok()?).ok());
            let digest = match known {
                Some(digest) => digest,
                None => {
                    let digest = source.digest(&mut |n| {
                        done += n;
                        told = true;
                        progress.report(Stage::Digest, done.min(total), total);
                    })?;
                    source.check()?;
                    if let Some(record) = record {
                        self.create()?;
                        self.write(&self.folder.join(record), digest.to_hex().as_bytes())?;
                    }
                    digest
                }
            };
            digests.push(digest);
        }
        if told {
            progress.report(Stage::Digest, total, total);
        }
        Ok(digests)
    }

    /// The name of the note that holds a file's digest; none where its time can't be relied on.
    fn record(&self, source: &Source) -> Option<String> {
        let modified = source.modified?;
        if SystemTime::now().duration_since(modified).is_ok_and(|age| age < SETTLED) {
            return None;
        }
        let path = fs::canonicalize(&source.path).ok()?;
        let nanos = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let key =
            Key::new("digest").with("file", &(path.to_string_lossy(), source.len, nanos.to_string())).ok()?;
        Some(format!("digest-{}", key.hex()))
    }
}
