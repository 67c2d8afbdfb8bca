//! Digests of files and settings, which name the entries of the cache.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Cache;
use crate::corpus::{Source, Sources};
use crate::error::{Error, Result};
use crate::progress::{Progress, Stage};

/// The version of the folder's layout and of everything that decides how text becomes tokens.
const FORMAT: u32 = 2;

/// A digest of everything that goes into an entry of the cache.
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
            .map_err(|error| Error::config(name, format!("cannot be part of a cache key: {error}")))?;
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

/// A file modified this recently could be modified again without a visible change of its time.
const SETTLED: Duration = Duration::from_secs(3);

impl Cache {
    /// The digests of files. A file whose path, length and time are known is not read again.
    pub(crate) fn digests(&self, sources: &Sources, progress: &dyn Progress) -> Result<Vec<blake3::Hash>> {
        let total = sources.n_bytes();
        let mut done = 0;
        let mut digests = Vec::with_capacity(sources.files.len());
        let mut told = false;
        let mut notes = Notes { cache: self, folders: HashMap::new() };
        for source in &sources.files {
            let place = place(source);
            let known = place.as_ref().and_then(|place| notes.find(place));
            let digest = match known {
                Some(digest) => digest,
                None => {
                    let digest = source.digest(&mut |n| {
                        done += n;
                        told = true;
                        progress.report(Stage::Digest, done.min(total), total);
                    })?;
                    source.check()?;
                    if let Some(place) = place {
                        notes.add(place, digest);
                    }
                    digest
                }
            };
            digests.push(digest);
        }
        notes.save();
        if told {
            progress.report(Stage::Digest, total, total);
        }
        Ok(digests)
    }
}

/// The name of a folder's list, and that of a file in it.
type Place = (String, String);

/// Where a file's digest is noted; `None` if its time is not reliable.
fn place(source: &Source) -> Option<Place> {
    let modified = source.modified?;
    if SystemTime::now().duration_since(modified).is_ok_and(|age| age < SETTLED) {
        return None;
    }
    let path = fs::canonicalize(&source.path).ok()?;
    let nanos = modified.duration_since(UNIX_EPOCH).ok()?.as_nanos().to_string();
    let folder = Key::new("digests").with("folder", &path.parent()?.to_string_lossy()).ok()?;
    let file = Key::new("digest").with("file", &(path.to_string_lossy(), source.len, nanos)).ok()?;
    Some((format!("digests-{}", folder.hex()), file.hex()))
}

/// Digests known from earlier starts: in the cache, one list per folder with files of a corpus.
struct Notes<'a> {
    cache: &'a Cache,
    /// For each list, its entries, and whether they contain one that is missing from the file on disk.
    folders: HashMap<String, (BTreeMap<String, String>, bool)>,
}

impl Notes<'_> {
    fn list(&mut self, name: &str) -> &mut (BTreeMap<String, String>, bool) {
        let cache = self.cache;
        self.folders.entry(name.to_owned()).or_insert_with(|| {
            let text = fs::read_to_string(cache.folder.join(name)).unwrap_or_default();
            let entry = |line: &str| line.split_once(' ').map(|(file, digest)| (file.into(), digest.into()));
            (text.lines().filter_map(entry).collect(), false)
        })
    }

    fn find(&mut self, (folder, file): &Place) -> Option<blake3::Hash> {
        blake3::Hash::from_hex(self.list(folder).0.get(file)?).ok()
    }

    fn add(&mut self, (folder, file): Place, digest: blake3::Hash) {
        let (entries, changed) = self.list(&folder);
        entries.insert(file, digest.to_hex().to_string());
        *changed = true;
    }

    /// Writes new entries. A failure is not an error, as an unwritable cache may still hold the corpus: the files are
    /// read again at the next start.
    fn save(self) {
        for (name, (entries, changed)) in self.folders {
            if changed && self.cache.create().is_ok() {
                let text: String =
                    entries.iter().map(|(file, digest)| format!("{file} {digest}\n")).collect();
                self.cache.write(&self.cache.folder.join(name), text.as_bytes()).ok();
            }
        }
    }
}
