//! Reading safetensors: one file or shards with an index, memory-mapped, widened to float32.
//!
//! A file is mapped, not read, and its pages are given back as soon as their numbers are copied: loading takes the
//! memory of the result and a few MiB. Nothing is taken on trust: the header must cover its file exactly, without
//! holes or overlaps, before any tensor is allocated, and an index can only name files beside it.
#![allow(unsafe_code)] // mapping a file, and giving its pages back

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::DType;
use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::error::Error;
use super::json;
use crate::plain_name::is_plain_name;

/// The file of a model that is not sharded.
pub(super) const WHOLE: &str = "model.safetensors";
/// The index of a model that is.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// Bytes copied before their pages are given back.
const CHUNK: usize = 4 << 20;

/// Where one tensor lies, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    shard: usize,
    bytes: Range<usize>,
    /// The element type in the file.
    pub(super) dtype: Dtype,
    /// The shape in the file.
    pub(super) shape: Vec<usize>,
}

impl Entry {
    /// Whether the elements can be widened to float32.
    pub(super) fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}

/// The tensors of a model folder by name; their numbers stay in the files until they are asked for.
#[derive(Debug)]
pub(super) struct Store {
    shards: Vec<Mmap>,
    entries: BTreeMap<String, Entry>,
}

impl Store {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// If there is neither, if a file is malformed, or if index and shards disagree.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let mut store = Self { shards: Vec::new(), entries: BTreeMap::new() };
        if dir.join(WHOLE).is_file() {
            store.add(&dir.join(WHOLE), |_| true)?;
        } else if dir.join(INDEX).is_file() {
            store.add_shards(dir)?;
        } else {
            return Err(nothing_to_read(dir));
        }
        Ok(store)
    }

    fn add_shards(&mut self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(INDEX);
        let problem = |problem: String| Error::Json { path: path.clone(), problem };
        let index = json::read_object(&path)?;
        let Some(map) = index.get("weight_map").and_then(|map| map.as_object()) else {
            return Err(problem("has no \"weight_map\"".into()));
        };
        let mut of_shard: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, shard) in map {
            match shard.as_str() {
                Some(shard) if is_plain_name(shard) => of_shard.entry(shard).or_default().push(name),
                _ => problems
                    .push(format!("weight_map[{name:?}] = {shard} is not the name of a file in this folder")),
            }
        }
        for (shard, names) in &of_shard {
            if problems.is_empty() && !dir.join(shard).is_file() {
                problems.push(format!(
                    "names the shard {shard:?}, which is missing ({} tensors, the first is {})",
                    names.len(),
                    names[0]
                ));
            }
        }
        if !problems.is_empty() {
            return Err(problem(problems.join("; ")));
        }
        for (shard, names) in &of_shard {
            self.add(&dir.join(shard), |name| names.binary_search(&name).is_ok() || !map.contains_key(name))?;
        }
        let absent: Vec<_> = map.iter().filter(|(name, _)| !self.entries.contains_key(*name)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let absent: Vec<_> = absent.iter().map(|(name, shard)| format!("{name} (in {shard})")).collect();
        Err(problem(format!("names tensors that their shards do not hold: {}", absent.join(", "))))
    }

    /// Maps one file, checks its header and takes up the tensors that `wanted` says yes to.
    fn add(&mut self, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let file = File::open(path).map_err(Error::read(path))?;
        // SAFETY: the mapping is read-only and private to this process; a writer that truncates the file while it is
        // mapped would raise SIGBUS, which is the known price of mapping and why checkpoints are renamed into place.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::read(path))?;
        if json::is_lfs_pointer(&map) {
            let problem = json::LFS_POINTER.into();
            return Err(Error::Safetensors { path: path.to_path_buf(), problem });
        }
        let malformed =
            |error| Error::Safetensors { path: path.to_path_buf(), problem: explain(error, map.len()) };
        let (header_len, header) = SafeTensors::read_metadata(&map).map_err(malformed)?;
        let shard = self.shards.len();
        for (name, info) in header.tensors() {
            if !wanted(&name) {
                continue;
            }
            let (start, end) = info.data_offsets;
            let bytes = header_len + 8 + start..header_len + 8 + end;
            let entry = Entry { shard, bytes, dtype: info.dtype, shape: info.shape.clone() };
            self.entries.insert(name, entry);
        }
        self.shards.push(map);
        Ok(())
    }

    /// The tensors by name.
    pub(super) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The type of these tensors; of several, the widest: float32 where float16 and bfloat16 come together.
    pub(super) fn dtype<'a>(&self, names: impl Iterator<Item = &'a str>) -> DType {
        let found: BTreeSet<Dtype> = names.filter_map(|name| Some(self.entries.get(name)?.dtype)).collect();
        match found.into_iter().collect::<Vec<_>>()[..] {
            [Dtype::F16] => DType::F16,
            [Dtype::BF16] => DType::BF16,
            _ => DType::F32,
        }
    }

    /// Whether two tensors are the same, bit for bit.
    pub(super) fn same(&self, one: &Entry, other: &Entry) -> bool {
        if one.dtype != other.dtype || one.shape != other.shape {
            return false;
        }
        let (Some(map), Some(other_map)) = (self.shards.get(one.shard), self.shards.get(other.shard)) else {
            return false;
        };
        (0..one.bytes.len()).step_by(CHUNK).all(|start| {
            let part =
                |bytes: &Range<usize>| bytes.start + start..(bytes.start + start + CHUNK).min(bytes.end);
            let (a, b) = (part(&one.bytes), part(&other.bytes));
            let same = map[a.clone()] == other_map[b.clone()];
            give_back(map, a);
            give_back(other_map, b);
            same
        })
    }

    /// The numbers of a tensor, in the file's order, widened to float32.
    ///
    /// Widening is exact: every f16 and bf16 is a float32. An entry of another type gives nothing
    /// (see [`Entry::is_float`]).
    pub(super) fn floats(&self, entry: &Entry) -> Vec<f32> {
        let n_bytes = entry.bytes.len();
        let Some(map) = self.shards.get(entry.shard) else { return Vec::new() };
        let width = match entry.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            _ => return Vec::new(),
        };
        let mut floats = Vec::with_capacity(n_bytes / width);
        let mut start = entry.bytes.start;
        while start < entry.bytes.end {
            let end = (start + CHUNK).min(entry.bytes.end);
            let bytes = &map[start..end];
            match entry.dtype {
                Dtype::F32 => {
                    floats.extend(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)))
                }
                Dtype::F16 => floats
                    .extend(bytes.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32())),
                _ => floats.extend(
                    bytes.as_chunks::<2>().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()),
                ),
            }
            give_back(map, start..end);
            start = end;
        }
        floats
    }
}

/// Lets the system take back the pages of `bytes`, whose numbers were copied.
fn give_back(map: &Mmap, bytes: Range<usize>) {
    // SAFETY: the mapping is a read-only view of a file: a page given back is read again from the file if it is ever
    // touched. Failure only means that the pages stay.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
}

fn nothing_to_read(dir: &Path) -> Error {
    let other = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"];
    let problem = match other.iter().find(|name| dir.join(name).is_file()) {
        Some(name) => format!("has {name} but no {WHOLE}: save the model as safetensors first"),
        None => format!("has neither {WHOLE} nor {INDEX}"),
    };
    Error::NoModel { path: PathBuf::from(dir), problem }
}

/// What a malformed file means to the one who has it.
fn explain(error: SafeTensorError, n_bytes: usize) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!("is truncated: {n_bytes} bytes do not hold the header that it announces")
        }
        SafeTensorError::HeaderTooLarge => {
            "announces a header of more than 100 MB: not a safetensors file".into()
        }
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "is truncated, or holds bytes of no tensor: its {n_bytes} bytes are not the end of the last tensor"
        ),
        SafeTensorError::InvalidOffset(name) => {
            format!("the bytes of tensor {name:?} overlap another tensor's, or leave a gap before them")
        }
        SafeTensorError::TensorInvalidInfo => {
            "the shape and type of a tensor do not fit the number of its bytes".into()
        }
        SafeTensorError::ValidationOverflow => {
            "the shape of a tensor has more elements than can be counted".into()
        }
        other => format!("is not a safetensors file: {other}"),
    }
}
