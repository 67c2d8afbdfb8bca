//! The GGUF container: a memory-mapped file, its keys, and the location of each tensor
//! ([GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)).
//!
//! Nothing is trusted: every length is checked against the rest of the file before anything is allocated, and every
//! tensor must be within the file.
#![allow(unsafe_code)] // memory-maps a file

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};
use serde_json::{Map, Value};

use super::types::Stored;
use crate::folder::Error;
use crate::magic::MAGIC;
use crate::mapped::Mapped;

/// Maximum nesting of arrays.
const DEPTH: usize = 4;
/// Maximum number of dimensions of a tensor.
const N_DIM: u32 = 4;

/// Location, type and shape of one tensor.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) bytes: Range<usize>,
    pub(super) stored: Stored,
    /// Its shape, rows first.
    pub(super) shape: Vec<usize>,
}

impl Entry {
    /// Elements per row.
    pub(super) fn width(&self) -> usize {
        if self.shape.len() < 2 { self.shape.iter().product() } else { self.shape[1..].iter().product() }
    }
}

/// An open GGUF file: its keys, and the locations of its tensors.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    map: Arc<Mmap>,
    keys: Map<String, Value>,
    tensors: BTreeMap<String, Entry>,
}

impl File {
    /// Opens a file.
    ///
    /// # Errors
    /// Returns an error if it can't be read, is not a GGUF file of version 2 or 3, or is truncated or damaged; the
    /// message says where.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = std::fs::File::open(path).map_err(Error::read(path))?;
        // SAFETY: the mapping is read-only and private to this process; a writer that truncates the file while it is
        // mapped would raise SIGBUS, which is the known price of mapping.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::read(path))?;
        let (keys, tensors) = read(&map)
            .map_err(|problem| Error::Gguf { path: path.to_path_buf(), problems: vec![problem] })?;
        Ok(Self { path: path.to_path_buf(), map: Arc::new(map), keys, tensors })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its keys. float32 values are converted to float64 exactly; those that are not finite are null.
    pub fn keys(&self) -> &Map<String, Value> {
        &self.keys
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, Entry> {
        &self.tensors
    }

    /// The bytes of a tensor.
    pub(super) fn all(&self, entry: &Entry) -> &[u8] {
        &self.map[entry.bytes.clone()]
    }

    /// Releases the pages of a tensor whose values were copied.
    pub(super) fn give_back(&self, entry: &Entry) {
        let Range { start, end } = entry.bytes;
        // SAFETY: the mapping is a read-only view of a file: a released page is read from the file again if it is
        // accessed. Failure only means that the pages stay.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
    }

    /// The bytes of rows of a tensor.
    pub(super) fn rows(&self, entry: &Entry, rows: Range<usize>) -> &[u8] {
        &self.map[row_bytes(entry, rows)]
    }

    /// Rows of a tensor where the file is mapped; `None` if they are not float32 that can be read there.
    pub(super) fn mapped(&self, entry: &Entry, rows: Range<usize>) -> Option<Mapped> {
        Mapped::new(Some(&self.map).filter(|_| entry.stored == Stored::F32)?, row_bytes(entry, rows))
    }

    /// The error with these problems of this file.
    pub(super) fn wrong(&self, problems: Vec<String>) -> Error {
        Error::Gguf { path: self.path.clone(), problems }
    }
}

/// The location of rows of a tensor.
fn row_bytes(entry: &Entry, rows: Range<usize>) -> Range<usize> {
    let width = entry.stored.n_bytes(entry.width()).unwrap_or(0);
    let start = entry.bytes.start + rows.start * width;
    start..start + rows.len() * width
}

type Read = (Map<String, Value>, BTreeMap<String, Entry>);

/// A read position in the file.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What is being read, for error messages.
    what: String,
}

fn read(bytes: &[u8]) -> Result<Read, String> {
    let mut cursor = Cursor { bytes, at: 0, what: "its header".into() };
    if !bytes.starts_with(MAGIC) {
        return Err("is not a GGUF file: it doesn't begin with \"GGUF\"; expected a file written by \
                    `vulpes export --to gguf` or llama.cpp's converter"
            .into());
    }
    cursor.at = MAGIC.len();
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        return Err(match version.swap_bytes() {
            2 | 3 => "is a big-endian GGUF file; only little-endian is supported: convert it with \
                      `gguf-convert-endian` of llama.cpp's Python package"
                .into(),
            _ => format!(
                "is a GGUF file of version {version}; expected version 2 or 3: convert the model again"
            ),
        });
    }
    let (n_tensor, n_key) = (cursor.u64()?, cursor.u64()?);
    // A key takes at least 13 bytes, a tensor at least 24.
    cursor.check_room(n_key, 13, "keys")?;
    cursor.check_room(n_tensor, 24, "tensors")?;
    let mut keys = Map::new();
    for number in 0..n_key {
        cursor.what = format!("key {number}");
        let key = cursor.string()?;
        cursor.what = format!("the key {key:?}");
        let kind = cursor.u32()?;
        let value = cursor.value(kind, 0)?;
        if keys.insert(key.clone(), value).is_some() {
            return Err(format!("has the key {key:?} twice"));
        }
    }
    let mut infos = Vec::new();
    for number in 0..n_tensor {
        cursor.what = format!("the header of tensor {number}");
        let name = cursor.string()?;
        cursor.what = format!("the header of the tensor {name:?}");
        let n_dim = cursor.u32()?;
        if n_dim > N_DIM {
            return Err(format!(
                "the tensor {name:?} has {n_dim} dimensions; expected at most {N_DIM}: the file is damaged"
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..n_dim {
            let size = cursor.u64()?;
            shape.push(usize::try_from(size).map_err(|_| too_large(&name))?);
        }
        shape.reverse();
        infos.push((name, shape, cursor.u32()?, cursor.u64()?));
    }
    let alignment = match keys.get("general.alignment") {
        None => 32,
        Some(value) => value
            .as_u64()
            .filter(|n| n.is_power_of_two() && *n <= 1 << 30)
            .ok_or_else(|| format!("general.alignment is {value}; expected a power of two"))?,
    };
    let start = cursor.at.next_multiple_of(alignment as usize);
    let mut tensors = BTreeMap::new();
    for (name, shape, kind, offset) in infos {
        let entry = placed(bytes.len(), start, &name, shape, kind, offset)?;
        if tensors.contains_key(&name) {
            return Err(format!("has the tensor {name:?} twice"));
        }
        tensors.insert(name, entry);
    }
    Ok((keys, tensors))
}

fn too_large(name: &str) -> String {
    format!("the tensor {name:?} has more elements than can be addressed: the file is damaged")
}

/// The location of a tensor, checked to be within the file.
fn placed(
    len: usize,
    start: usize,
    name: &str,
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
) -> Result<Entry, String> {
    let stored = Stored::of(kind)
        .map_err(|called| format!("the tensor {name:?} is of type {called}; {}", Stored::words()))?;
    let n_number =
        shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n)).ok_or_else(|| too_large(name))?;
    let in_row = shape.last().copied().unwrap_or(1);
    if !in_row.is_multiple_of(stored.n_block()) {
        return Err(format!(
            "the tensor {name:?} has rows of {in_row} elements, which its type {} can't split into blocks of {}",
            stored.name(),
            stored.n_block()
        ));
    }
    let n_bytes = stored.n_bytes(n_number).ok_or_else(|| too_large(name))?;
    let first = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
    let end = first.and_then(|first| first.checked_add(n_bytes));
    match (first, end) {
        (Some(first), Some(end)) if end <= len => Ok(Entry { bytes: first..end, stored, shape }),
        _ => Err(format!(
            "is truncated: the tensor {name:?} takes {n_bytes} bytes from byte {offset} after the header of {start} \
             bytes, but the file has {len} bytes; download or write it again"
        )),
    }
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let found = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or_else(|| {
            format!(
                "is truncated or damaged in {}: expected {n} bytes at byte {}, but the file has {}; download or \
                 write it again",
                self.what,
                self.at,
                self.bytes.len()
            )
        })?;
        self.at += n;
        Ok(found)
    }

    /// Checks that the rest of the file has room for `n` items of at least `least` bytes each.
    fn check_room(&self, n: u64, least: u64, of: &str) -> Result<(), String> {
        let left = (self.bytes.len() - self.at) as u64;
        match n.checked_mul(least) {
            Some(all) if all <= left => Ok(()),
            _ => Err(format!(
                "is truncated or damaged in {}: it announces {n} {of}, but {left} bytes are left; download or write \
                 it again",
                self.what
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<String, String> {
        let n = self.u64()?;
        self.check_room(n, 1, "bytes of text")?;
        let bytes = self.take(n as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|error| {
            let at = self.at - bytes.len() + error.utf8_error().valid_up_to();
            format!("{}: byte {at} of the file is not UTF-8; the file is damaged", self.what)
        })
    }

    /// Reads a value of a type of `gguf_metadata_value_type`.
    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            6 => f64::from(f32::from_le_bytes(self.array()?)).into(),
            7 => (self.array::<1>()? != [0]).into(),
            8 => self.string()?.into(),
            9 if depth < DEPTH => {
                let kind = self.u32()?;
                let n = self.u64()?;
                self.check_room(n, least(kind), "values")?;
                let values: Result<Vec<Value>, String> =
                    (0..n).map(|_| self.value(kind, depth + 1)).collect();
                values?.into()
            }
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            12 => f64::from_le_bytes(self.array()?).into(),
            _ => {
                let what =
                    if kind == 9 { "too deeply nested arrays".to_owned() } else { format!("type {kind}") };
                return Err(format!(
                    "{} is of {what}, which is unknown: the file is damaged or newer",
                    self.what
                ));
            }
        })
    }
}

/// Minimum size of a value in bytes.
fn least(kind: u32) -> u64 {
    match kind {
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => 1,
    }
}
