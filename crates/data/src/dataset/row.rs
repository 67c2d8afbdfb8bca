//! One row before padding, and the assembly of rows into a batch.

use crate::batch::{Batch, IGNORED};

/// One row of ids with its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) ids: Vec<u32>,
    pub(super) targets: Vec<i64>,
    pub(super) padding_mask: Option<Vec<u8>>,
    pub(super) token_types: Option<Vec<u32>>,
    pub(super) segments: Option<Vec<u32>>,
    pub(super) positions: Option<Vec<u32>>,
}

impl Row {
    /// The two texts of a pair, split where the second one's token types begin. The target of the first is the
    /// second.
    pub(super) fn into_pair(mut self) -> [Self; 2] {
        let types = self.token_types.take().unwrap_or_default();
        let at = types.iter().position(|&text| text == 1).unwrap_or(self.ids.len());
        let second = self.ids.split_off(at);
        let text = |ids, target| Self { ids, targets: vec![target], ..Self::default() };
        [text(self.ids, 0), text(second, IGNORED)]
    }
}

/// Pads rows to the longest, or to `len` if set, and assembles them.
///
/// `per_row`: whether each row has one target instead of one per position.
pub(super) fn assemble(rows: Vec<Row>, len: Option<usize>, pad: u32, per_row: bool, first_row: u64) -> Batch {
    let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let len = len.unwrap_or(longest).max(longest);
    let padded = rows.iter().any(|row| row.ids.len() < len || row.padding_mask.is_some());
    let mut batch = Batch {
        rows: rows.len(),
        len,
        ids: Vec::with_capacity(rows.len() * len),
        targets: Vec::with_capacity(rows.len() * if per_row { 1 } else { len }),
        padding_mask: None,
        token_types: gather(&rows, len, 0, |row| row.token_types.as_deref()),
        segments: gather(&rows, len, u32::MAX, |row| row.segments.as_deref()).map(Into::into),
        positions: gather_positions(&rows, len),
        first_row,
    };
    let mut padding_mask = Vec::with_capacity(if padded { rows.len() * len } else { 0 });
    for (number, row) in rows.iter().enumerate() {
        let end = (number + 1) * len;
        batch.ids.extend(&row.ids);
        batch.ids.resize(end, pad);
        batch.targets.extend(&row.targets);
        if !per_row {
            batch.targets.resize(end, IGNORED);
        }
        if padded {
            match &row.padding_mask {
                Some(own) => padding_mask.extend(own),
                None => padding_mask.resize(padding_mask.len() + row.ids.len(), 1),
            }
            padding_mask.resize(end, 0);
        }
    }
    batch.padding_mask = padded.then(|| padding_mask.into());
    batch
}

/// One optional vector for all rows, filled up; `None` if no row has it.
fn gather<'a>(
    rows: &'a [Row],
    len: usize,
    fill: u32,
    part: impl Fn(&'a Row) -> Option<&'a [u32]>,
) -> Option<Vec<u32>> {
    rows.iter().any(|row| part(row).is_some()).then(|| {
        let mut all = Vec::with_capacity(rows.len() * len);
        for (number, row) in rows.iter().enumerate() {
            all.extend_from_slice(part(row).unwrap_or_default());
            all.resize((number + 1) * len, fill);
        }
        all
    })
}

/// The positions of all rows; rows without positions count from 0.
fn gather_positions(rows: &[Row], len: usize) -> Option<Vec<u32>> {
    rows.iter().any(|row| row.positions.is_some()).then(|| {
        let mut all = Vec::with_capacity(rows.len() * len);
        for (number, row) in rows.iter().enumerate() {
            match &row.positions {
                Some(positions) => all.extend_from_slice(positions),
                None => all.extend(0..row.ids.len() as u32),
            }
            all.resize((number + 1) * len, 0);
        }
        all
    })
}
