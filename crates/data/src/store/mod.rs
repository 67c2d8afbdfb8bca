//! A tokenized corpus: its tokens end to end, and the end of each document.
//!
//! Offsets and counts are 64 bits wide.

mod build;
mod column;
mod map;
mod round;
mod split;
mod writer;

use std::ops::Range;

pub(crate) use build::{Build, Built, Encoding, Made, MadeSet};
pub(crate) use column::{Column, Width};
pub(crate) use split::{Split, belongs_to_validation};
#[cfg(test)]
pub(crate) use writer::Writer;
pub(crate) use writer::{Finished, PER_SHARD, Target};

use crate::error::Result;

/// The documents of a corpus as tokens.
#[derive(Debug)]
pub(crate) struct Store {
    /// All tokens, document after document.
    pub(crate) tokens: Column,
    /// The end of each document.
    pub(crate) ends: Column,
    /// The label of each document, as a number in the order of first occurrence.
    pub(crate) labels: Option<Column>,
    /// Where in each document the second text of a pair begins.
    pub(crate) pair_starts: Option<Column>,
}

impl Store {
    pub(crate) fn n_tokens(&self) -> u64 {
        self.tokens.len()
    }

    pub(crate) fn n_documents(&self) -> u64 {
        self.ends.len()
    }

    /// The range of a document's tokens.
    pub(crate) fn document(&self, index: u64) -> Range<u64> {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1) };
        start..self.ends.get(index)
    }

    /// The document of the token at `at`.
    pub(crate) fn document_at(&self, at: u64) -> u64 {
        self.ends.first_above(at)
    }

    /// `n` tokens from `at` on, or as many as there are.
    pub(crate) fn read(&self, at: u64, n: usize) -> Vec<u32> {
        let mut ids = Vec::with_capacity(n);
        self.tokens.read(at, n, |id| ids.push(id as u32));
        ids
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.tokens.check()?;
        self.ends.check()?;
        self.labels.iter().chain(&self.pair_starts).try_for_each(Column::check)
    }
}
