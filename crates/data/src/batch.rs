//! Batches: rows of token ids with their targets, as plain vectors.

use std::ops::Range;
use std::sync::Arc;

/// The target that the loss ignores, as in PyTorch.
pub const IGNORED: i64 = -100;

/// Rows of ids, their targets, and which of them are real.
///
/// All per-position vectors are row-major, `rows * len` long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of rows.
    pub rows: usize,
    /// The length of each row.
    pub len: usize,
    /// The ids.
    pub ids: Vec<u32>,
    /// The targets, [`IGNORED`] where there is none: one per position, or for classification one per row. For a
    /// contrastive loss on pairs each row is a text; the target of a pair's first text is its second, which is the
    /// next row.
    pub targets: Vec<i64>,
    /// The padding mask: 1 at real tokens, 0 at padding; `None` if all are real.
    pub padding_mask: Option<Arc<[u8]>>,
    /// The token types: which text of a pair each position belongs to.
    pub token_types: Option<Vec<u32>>,
    /// The document of its row that each position belongs to, if attention must not cross documents.
    pub segments: Option<Arc<[u32]>>,
    /// The position ids; `None` if they are 0, 1, 2, …
    pub positions: Option<Vec<u32>>,
    /// The number of the first row, counted over all rows of the run: a row has the same number however the batches
    /// and shards are cut, so random numbers can be keyed by it.
    pub first_row: u64,
}

impl Batch {
    /// The number of positions (or rows) with a target.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORED).count()
    }

    /// The number of real tokens.
    pub fn n_tokens(&self) -> usize {
        match &self.padding_mask {
            Some(padding_mask) => padding_mask.iter().filter(|&&padding_mask| padding_mask != 0).count(),
            None => self.ids.len(),
        }
    }

    /// Removes the targets of row `row`, which stays in the batch.
    pub fn ask_nothing_of(&mut self, row: usize) {
        let each = self.targets.len() / self.rows.max(1);
        self.targets.iter_mut().skip(row * each).take(each).for_each(|target| *target = IGNORED);
    }

    /// The same tokens in rows that are `parts` times as short and independent of each other; rows of padding alone
    /// are dropped. A length that `parts` doesn't divide is left unchanged.
    #[must_use]
    pub fn cut(self, parts: usize) -> Self {
        if parts <= 1 || !self.len.is_multiple_of(parts) || self.targets.len() != self.ids.len() {
            return self;
        }
        let (rows, len) = (self.rows * parts, self.len / parts);
        let cut = Self { rows, len, first_row: self.first_row * parts as u64, ..self };
        let Some(padding_mask) = &cut.padding_mask else { return cut };
        let is_real = |row: &usize| {
            padding_mask[row * len..(row + 1) * len].iter().any(|&padding_mask| padding_mask != 0)
        };
        let real: Vec<usize> = (0..rows).filter(is_real).collect();
        fn of<T: Copy>(values: &[T], rows: &[usize], len: usize) -> Vec<T> {
            rows.iter().flat_map(|row| &values[row * len..(row + 1) * len]).copied().collect()
        }
        Self {
            rows: real.len(),
            len,
            ids: of(&cut.ids, &real, len),
            targets: of(&cut.targets, &real, len),
            padding_mask: Some(of(padding_mask, &real, len).into()),
            token_types: cut.token_types.as_ref().map(|types| of(types, &real, len)),
            segments: cut.segments.as_ref().map(|segments| of(segments, &real, len).into()),
            positions: cut.positions.as_ref().map(|positions| of(positions, &real, len)),
            first_row: cut.first_row,
        }
    }

    /// Some of the rows, with their padding, as a new batch; rows past the end are left out.
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
            padding_mask: self.padding_mask.as_ref().map(|mask| mask[places.clone()].into()),
            token_types: self.token_types.as_ref().map(|types| types[places.clone()].to_vec()),
            segments: self.segments.as_ref().map(|segments| segments[places.clone()].into()),
            positions: self.positions.as_ref().map(|positions| positions[places.clone()].to_vec()),
            first_row: self.first_row + rows.start as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_rows_hold_the_same_tokens() {
        let batch = Batch {
            rows: 2,
            len: 4,
            ids: (0..8).collect(),
            targets: (1..9).collect(),
            padding_mask: Some([1, 1, 1, 1, 1, 1, 0, 0].into()),
            token_types: None,
            segments: None,
            positions: None,
            first_row: 6,
        };
        let cut = batch.clone().cut(2);
        assert_eq!((cut.rows, cut.len, cut.first_row), (3, 2, 12), "the last is padding alone");
        assert_eq!((cut.ids, cut.targets), ((0..6).collect(), (1..7).collect()));
        let whole = Batch { padding_mask: None, ..batch.clone() };
        assert_eq!(whole.clone().cut(4).rows, 8);
        assert_eq!(whole.clone().cut(4).ids, whole.ids);
        assert_eq!(batch.clone().cut(3), batch, "three is no divisor of four");
    }
}
