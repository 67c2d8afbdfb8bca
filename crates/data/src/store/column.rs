//! A long list of unsigned integers: little-endian bytes, in memory or in mapped files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::map::Mapped;
use crate::error::Result;

/// The number of bytes of one integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Width {
    U16,
    U32,
    U64,
}

impl Width {
    /// The smallest width for integers below `n`.
    pub(crate) fn of_ids(n: usize) -> Self {
        if n <= 1 << 16 { Self::U16 } else { Self::U32 }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }

    /// Appends integers as bytes.
    pub(crate) fn write(self, numbers: impl Iterator<Item = u64>, bytes: &mut Vec<u8>) {
        match self {
            Self::U16 => numbers.for_each(|n| bytes.extend_from_slice(&(n as u16).to_le_bytes())),
            Self::U32 => numbers.for_each(|n| bytes.extend_from_slice(&(n as u32).to_le_bytes())),
            Self::U64 => numbers.for_each(|n| bytes.extend_from_slice(&n.to_le_bytes())),
        }
    }
}

/// A list of integers of one width, in shard files of equal length except the last.
#[derive(Debug)]
pub(crate) struct Column {
    width: Width,
    /// How many integers a shard file holds.
    per_shard: u64,
    len: u64,
    shards: Vec<Shard>,
}

/// One section of a column.
#[derive(Debug)]
pub(crate) enum Shard {
    Memory(Vec<u8>),
    Mapped(Mapped),
}

impl Shard {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(mapped) => mapped.bytes(),
        }
    }
}

impl Column {
    pub(crate) fn in_memory(width: Width, bytes: Vec<u8>) -> Self {
        let len = (bytes.len() / width.bytes()) as u64;
        Self { width, per_shard: u64::MAX, len, shards: vec![Shard::Memory(bytes)] }
    }

    pub(crate) fn mapped(width: Width, per_shard: u64, paths: &[PathBuf]) -> Result<Self> {
        let shards: Vec<Mapped> = paths.iter().map(|path| Mapped::open(path)).collect::<Result<_>>()?;
        let len = shards.iter().map(|shard| (shard.bytes().len() / width.bytes()) as u64).sum();
        Ok(Self { width, per_shard, len, shards: shards.into_iter().map(Shard::Mapped).collect() })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Checks that the mapped shard files are unchanged.
    ///
    /// # Errors
    /// Returns an error if a file was truncated, written to or replaced.
    pub(crate) fn check(&self) -> Result<()> {
        self.shards.iter().try_for_each(|shard| match shard {
            Shard::Memory(_) => Ok(()),
            Shard::Mapped(mapped) => mapped.check(),
        })
    }

    /// The integer at `index`; 0 past the end.
    pub(crate) fn get(&self, index: u64) -> u64 {
        let mut number = 0;
        self.read(index, 1, |n| number = n);
        number
    }

    /// Passes on `n` integers from `at` on, or as many as there are.
    pub(crate) fn read(&self, at: u64, n: usize, mut each: impl FnMut(u64)) {
        let end = at.saturating_add(n as u64).min(self.len);
        let mut at = at;
        while at < end {
            let shard = self.shards[(at / self.per_shard) as usize].bytes();
            let within = at % self.per_shard;
            let stop = (within + (end - at)).min(self.per_shard);
            let width = self.width.bytes();
            let bytes = &shard[within as usize * width..stop as usize * width];
            match self.width {
                Width::U16 => {
                    bytes.as_chunks().0.iter().for_each(|two| each(u64::from(u16::from_le_bytes(*two))));
                }
                Width::U32 => {
                    bytes.as_chunks().0.iter().for_each(|four| each(u64::from(u32::from_le_bytes(*four))));
                }
                Width::U64 => bytes.as_chunks().0.iter().for_each(|eight| each(u64::from_le_bytes(*eight))),
            }
            at += stop - within;
        }
    }

    /// The first index with an integer greater than `number`, in an ascending column.
    pub(crate) fn first_above(&self, number: u64) -> u64 {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle) > number { high = middle } else { low = middle + 1 }
        }
        low
    }
}
