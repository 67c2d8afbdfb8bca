//! Rows of ids with their targets, as plain vectors.

use std::ops::Range;
use std::sync::Arc;

/// The target of a place that asks nothing, as in PyTorch.
pub const IGNORED: i64 = -100;

/// Rows of ids, what is asked of them, and which of them are real.
///
/// All per-place vectors are row-major, `rows * len` long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of rows.
    pub rows: usize,
    /// The length of each row.
    pub len: usize,
    /// The ids.
    pub ids: Vec<u32>,
    /// The targets, [`IGNORED`] where nothing is asked: one a place, or for classification one a row. Of pairs of texts
    /// that are told from others each row is a text; the first of a pair asks for the second, which is the next row.
    pub targets: Vec<i64>,
    /// 1 at real tokens, 0 at padding; nothing where all are real.
    pub keep: Option<Arc<[u8]>>,
    /// Which text of a pair each place belongs to.
    pub token_types: Option<Vec<u32>>,
    /// Which document of its row each place belongs to, where attention must not cross documents.
    pub segments: Option<Arc<[u32]>>,
    /// The position of each place; nothing where they are 0, 1, 2, …
    pub positions: Option<Vec<u32>>,
    /// The number of the first row, counted over all rows of the run: the same row has the same number however the
    /// batches and shards are cut, so that random numbers can be keyed by it.
    pub first_row: u64,
}

impl Batch {
    /// The number of places (or rows) that ask something.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }

    /// The number of real tokens.
    pub fn n_tokens(&self) -> usize {
        match &self.keep {
            Some(keep) => keep.iter().filter(|&&keep| keep != 0).count(),
            None => self.ids.len(),
        }
    }

    /// Some of the rows, padding and all, as a batch of their own; rows past the end are left out.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let rows = rows.start.min(self.rows)..rows.end.clamp(rows.start.min(self.rows), self.rows);
        let places = rows.start * self.len..rows.end * self.len;
        let targets = match self.targets.len() == self.ids.len() {
            true => places.clone(),
            false => rows.clone(),
        };
        Self {
            rows: rows.len(),
            len: self.len,
            ids: self.ids[places.clone()].to_vec(),
            targets: self.targets[targets].to_vec(),
            keep: self.keep.as_ref().map(|keep| keep[places.clone()].into()),
            token_types: self.token_types.as_ref().map(|types| types[places.clone()].to_vec()),
            segments: self.segments.as_ref().map(|segments| segments[places.clone()].into()),
            positions: self.positions.as_ref().map(|positions| positions[places.clone()].to_vec()),
            first_row: self.first_row + rows.start as u64,
        }
    }
}
