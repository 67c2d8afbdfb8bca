//! Reads safetensors: one file or shard files with an index, memory-mapped, widened to float32.
//!
//! Files are memory-mapped, and their pages are released as soon as their values are copied: loading takes the memory
//! of the result and a few MiB. Files are not trusted: the header must cover its file exactly, without holes or
//! overlaps, before any tensor is allocated, and an index can only name files in the same folder.
#![allow(unsafe_code)] // mapping a file, and giving its pages back

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DType;
use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::error::Error;
use super::json;
use crate::mapped::Mapped;
use crate::plain_name::is_plain_name;

/// The file of a model that is not sharded.
pub(super) const WHOLE: &str = "model.safetensors";
/// The index of a sharded model.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The number of bytes copied before their pages are released.
const CHUNK: usize = 4 << 20;
/// The minimum size in bytes of a read whose pages are released.
const READ: usize = 64 << 10;

/// The location and format of one tensor.
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

/// The tensors of a model folder by name; their values stay in the files until they are read.
#[derive(Debug)]
pub(super) struct Store {
    shards: Vec<Arc<Mmap>>,
    entries: BTreeMap<String, Entry>,
}

impl Store {
    /// Opens `model.safetensors`, or the shard files that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Returns an error if there is neither, if a file is malformed, or if index and shard files disagree.
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

    /// Opens a single file, an adapter's.
    ///
    /// # Errors
    /// Returns an error if it doesn't exist or is malformed.
    pub(super) fn open_file(path: &Path) -> Result<Self, Error> {
        let mut store = Self { shards: Vec::new(), entries: BTreeMap::new() };
        if !path.is_file() && path.with_extension("bin").is_file() {
            let problem = "is missing, there is only its .bin: save the adapter as safetensors first".into();
            return Err(Error::NoModel { path: path.to_path_buf(), problem });
        }
        store.add(path, |_| true)?;
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
                    "names the shard file {shard:?}, which is missing ({} tensors, the first is {})",
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
        Err(problem(format!("names tensors that are missing from their shard files: {}", absent.join(", "))))
    }

    /// Maps one file, checks its header and adds the tensors for which `wanted` is true.
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
        self.shards.push(Arc::new(map));
        Ok(())
    }

    /// The tensors by name.
    pub(super) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The widest type of these tensors: float32 if float16 and bfloat16 occur together.
    pub(super) fn dtype<'a>(&self, names: impl Iterator<Item = &'a str>) -> DType {
        let found: BTreeSet<Dtype> = names.filter_map(|name| Some(self.entries.get(name)?.dtype)).collect();
        match found.into_iter().collect::<Vec<_>>()[..] {
            [Dtype::F16] => DType::F16,
            [Dtype::BF16] => DType::BF16,
            _ => DType::F32,
        }
    }

    /// Whether two tensors are bit-identical.
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

    /// Reads values of a tensor from index `first` on until `out` is full, widened to float32.
    ///
    /// # Panics
    /// Panics if the tensor has fewer.
    pub(super) fn read(&self, entry: &Entry, first: usize, out: &mut [f32]) {
        let Some(map) = self.shards.get(entry.shard) else { return };
        let width = if entry.dtype == Dtype::F32 { 4 } else { 2 };
        let start = entry.bytes.start + first * width;
        let range = start..start + out.len() * width;
        assert!(range.end <= entry.bytes.end, "values beyond the tensor's end");
        widen(entry.dtype, &map[range.clone()], out);
        // Short reads are between others that are still to come.
        if range.len() >= READ {
            give_back(map, range);
        }
    }

    /// `n` values of a tensor from index `first` on, where the file is mapped; `None` if they are not float32 that can
    /// be read there.
    pub(super) fn mapped(&self, entry: &Entry, first: usize, n: usize) -> Option<Mapped> {
        let start = entry.bytes.start + first * size_of::<f32>();
        let bytes = start..start + n * size_of::<f32>();
        let is_float32 = entry.dtype == Dtype::F32 && bytes.end <= entry.bytes.end;
        Mapped::new(self.shards.get(entry.shard).filter(|_| is_float32)?, bytes)
    }

    /// The values of a tensor, in the file's order, widened to float32.
    ///
    /// Widening is exact: every f16 and bf16 is a float32. An entry of another type returns nothing (see
    /// [`Entry::is_float`]).
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

/// Widens values of the file's type.
fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        Dtype::BF16 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => out.fill(f32::NAN),
    }
}

/// Lets the system reclaim the pages of `bytes`, whose values were copied.
///
/// A page fault also maps neighboring pages, so those around `bytes` are released too; whoever reads them gets them
/// back at once.
fn give_back(map: &Mmap, bytes: Range<usize>) {
    const AROUND: usize = 64 << 10;
    let (start, end) = (bytes.start.saturating_sub(AROUND), (bytes.end + AROUND).min(map.len()));
    // SAFETY: the mapping is a read-only view of a file: a released page is read again from the file if it is ever
    // accessed. Failure only means that the pages stay.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
}

fn nothing_to_read(dir: &Path) -> Error {
    let other = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"];
    let problem = match other.iter().find(|name| dir.join(name).is_file()) {
        Some(name) => format!("has {name} but no {WHOLE}: save the model as safetensors first"),
        None => format!("has neither {WHOLE} nor {INDEX}"),
    };
    Error::NoModel { path: PathBuf::from(dir), problem }
}

/// Explains to a user what is wrong with a malformed file.
fn explain(error: SafeTensorError, n_bytes: usize) -> String {
    match error {
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!("is truncated: {n_bytes} bytes are too few for the announced header")
        }
        SafeTensorError::HeaderTooLarge => {
            "announces a header of more than 100 MB: not a safetensors file".into()
        }
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "is truncated, or has trailing bytes: it has {n_bytes} bytes, and the last tensor ends elsewhere"
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
