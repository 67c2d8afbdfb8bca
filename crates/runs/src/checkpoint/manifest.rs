//! The manifest of a folder: a BLAKE3 digest of each file, and of each tensor in them.
//!
//! The digests are verified whenever a checkpoint is read. Those of single tensors show which one is damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use vulpes_model::Embedder;
use vulpes_model::folder::{Sentence, sentence_files};

use super::files::Files;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

/// The format version that is written, and the newest that can be read.
pub const FORMAT: u32 = 1;

/// The maximum length of a safetensors header in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The expected files of a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format version.
    pub format: u32,
    /// Every file but the manifest itself, by name.
    pub files: BTreeMap<String, Entry>,
}

/// The expected content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3 digest, in hexadecimal.
    pub blake3: String,
    /// The digest of each tensor, for a safetensors file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tensors: BTreeMap<String, String>,
}

impl Manifest {
    /// Computes the digest of every file in `dir`.
    ///
    /// # Errors
    /// Returns an error if one can't be read.
    pub fn of(dir: &Path) -> std::io::Result<Self> {
        let mut files = BTreeMap::new();
        for name in names(dir)?.into_iter().filter(|name| name != MANIFEST) {
            let entry = digest(&dir.join(&name))?;
            files.insert(name, entry);
        }
        Ok(Self { format: FORMAT, files })
    }

    /// Reads a folder's manifest.
    ///
    /// # Errors
    /// Returns a description of what is wrong.
    pub fn read(dir: &Path) -> Result<Self, String> {
        let path = dir.join(MANIFEST);
        let length = std::fs::metadata(&path).map_err(|error| format!("{MANIFEST}: {error}"))?.len();
        if length > MAX_HEADER {
            return Err(format!("{MANIFEST}: {length} bytes is too long for a manifest"));
        }
        let text = std::fs::read(&path).map_err(|error| format!("{MANIFEST}: {error}"))?;
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
        if manifest.format == 0 || manifest.format > FORMAT {
            return Err(format!(
                "{MANIFEST}: unknown format {}; this version reads 1 to {FORMAT}",
                manifest.format
            ));
        }
        if let Some(name) = manifest.files.keys().find(|name| !is_plain(name)) {
            return Err(format!("{MANIFEST}: `{name}` is not a plain file name"));
        }
        let as_written = manifest.to_text().map_err(|error| format!("{MANIFEST}: {error}"))?;
        if as_written.as_bytes() != text {
            return Err(format!("{MANIFEST}: differs from what was written"));
        }
        Ok(manifest)
    }

    /// The canonical text of the manifest.
    fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Compares a folder with its manifest: no file is missing or extra, and every byte is unchanged.
    ///
    /// # Errors
    /// Returns every file that differs, and its first tensor that does.
    pub fn verify(&self, dir: &Path) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        for (name, wanted) in &self.files {
            let path = dir.join(name);
            // A link instead of a folder would lead elsewhere.
            let folder = path.parent().unwrap_or(dir);
            let is_within =
                folder == dir || std::fs::symlink_metadata(folder).is_ok_and(|folder| folder.is_dir());
            match std::fs::symlink_metadata(&path) {
                Ok(_) if !is_within => faults.push(format!("{name}: its folder is not a plain folder")),
                Err(error) => faults.push(format!("{name}: {error}")),
                Ok(found) if !found.is_file() => faults.push(format!("{name}: is not a plain file")),
                Ok(found) if found.len() != wanted.bytes => {
                    let what = format!("{name}: {} bytes instead of {}", found.len(), wanted.bytes);
                    faults.push(what);
                }
                Ok(_) => match digest(&path) {
                    Err(error) => faults.push(format!("{name}: {error}")),
                    // The tensors' digests too: if only one of those differs, the manifest is damaged.
                    Ok(found) if found != *wanted => faults.push(wanted.difference(name, &found)),
                    Ok(_) => {}
                },
            }
        }
        let extra = names(dir).unwrap_or_default().into_iter();
        let extra = extra.filter(|name| name != MANIFEST && !self.files.contains_key(name));
        faults.extend(extra.map(|name| format!("{name}: is not in the manifest")));
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Writes the manifest into `dir`.
    ///
    /// # Errors
    /// Returns an error if it can't be written.
    pub fn write(&self, dir: &Path, files: &dyn Files) -> std::io::Result<()> {
        let text = self.to_text().map_err(std::io::Error::other)?;
        files.write(&dir.join(MANIFEST), text.as_bytes())
    }
}

impl Entry {
    fn difference(&self, name: &str, found: &Self) -> String {
        if found.blake3 == self.blake3 {
            return format!("{name}: its tensors are not those that {MANIFEST} lists");
        }
        let differs = |tensor: &&String| found.tensors.get(*tensor) != self.tensors.get(*tensor);
        match self.tensors.keys().find(differs) {
            Some(tensor) => format!("{name}: tensor `{tensor}` differs from what was written"),
            None if !self.tensors.is_empty() => format!("{name}: its header differs from what was written"),
            None => format!("{name}: differs from what was written"),
        }
    }
}

/// The paths of all files in `dir` and its subfolders, relative to `dir`; an empty folder is listed by its name.
///
/// # Errors
/// Returns an error if a folder can't be read.
pub(crate) fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let within: Vec<String> = match entry.file_type()?.is_dir() {
            true => std::fs::read_dir(entry.path())?
                .map(|inner| Ok(format!("{name}/{}", inner?.file_name().to_string_lossy())))
                .collect::<std::io::Result<_>>()?,
            false => Vec::new(),
        };
        if within.is_empty() { names.push(name) } else { names.extend(within) }
    }
    Ok(names)
}

/// Whether a name stays within its folder; the only subfolders permitted are those of a model folder.
pub(crate) fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let is_one = matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None));
    (is_one && !name.contains('\\')) || is_of_module(name)
}

/// Whether it is the file of a sentence-transformers module.
fn is_of_module(name: &str) -> bool {
    let embedder = Embedder { normalize: true, ..Embedder::default() };
    let files = sentence_files(&Sentence { embedder, ..Sentence::default() }, 0);
    files.iter().any(|(known, _)| known == name)
}

fn digest(path: &Path) -> std::io::Result<Entry> {
    let mut file = File::open(path)?;
    let mut whole = blake3::Hasher::new();
    let mut bytes = 0;
    let mut take = |n: u64, into: &mut dyn FnMut(&[u8])| -> std::io::Result<u64> {
        // A header may claim any length; memory is allocated only for what exists.
        let mut buffer = vec![0; 1 << 16];
        let mut left = n;
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = file.read(&mut buffer[..wanted])?;
            if got == 0 {
                break;
            }
            whole.update(&buffer[..got]);
            into(&buffer[..got]);
            left -= got as u64;
            bytes += got as u64;
        }
        Ok(n - left)
    };
    let mut tensors = BTreeMap::new();
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let mut length = Vec::new();
        take(8, &mut |part| length.extend_from_slice(part))?;
        let length = length.try_into().map_or(0, u64::from_le_bytes).min(MAX_HEADER);
        let mut header = Vec::new();
        take(length, &mut |part| header.extend_from_slice(part))?;
        let mut at = 0;
        for (start, end, name) in places(&header) {
            if start < at || end < start {
                break;
            }
            let mut tensor = blake3::Hasher::new();
            take(start - at, &mut |_| {})?;
            take(end - start, &mut |part| {
                tensor.update(part);
            })?;
            at = end;
            tensors.insert(name, tensor.finalize().to_hex().to_string());
        }
    }
    take(u64::MAX, &mut |_| {})?;
    Ok(Entry { bytes, blake3: whole.finalize().to_hex().to_string(), tensors })
}

/// Start, end and name of every tensor of a safetensors header, in the order of the file.
fn places(header: &[u8]) -> Vec<(u64, u64, String)> {
    let Ok(serde_json::Value::Object(header)) = serde_json::from_slice(header) else { return Vec::new() };
    let place = |(name, value): (String, serde_json::Value)| {
        let offsets = value.get("data_offsets")?;
        Some((offsets.get(0)?.as_u64()?, offsets.get(1)?.as_u64()?, name))
    };
    let mut places: Vec<_> = header.into_iter().filter_map(place).collect();
    places.sort();
    places
}
