//! The position in the data: all the state that a resume needs.

use serde::{Deserialize, Serialize};

/// The next row to be read: its epoch and its index in the epoch's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// The number of completed epochs.
    pub epoch: u64,
    /// The number of rows of this epoch that were read before.
    pub index: u64,
}

impl Cursor {
    /// The position `rows` further on, in a set with epochs of `n_rows`.
    #[must_use]
    pub fn advance(self, rows: u64, n_rows: u64) -> Self {
        let n_rows = n_rows.max(1);
        let index = u128::from(self.index) + u128::from(rows);
        let epochs = (index / u128::from(n_rows)) as u64;
        Self { epoch: self.epoch + epochs, index: (index % u128::from(n_rows)) as u64 }
    }

    /// The number of the row, counted from the start of the run.
    pub fn row(self, n_rows: u64) -> u64 {
        self.epoch.wrapping_mul(n_rows).wrapping_add(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advance_crosses_epochs() {
        let start = Cursor { epoch: 1, index: 3 };
        assert_eq!(start.advance(1, 5), Cursor { epoch: 1, index: 4 });
        assert_eq!(start.advance(2, 5), Cursor { epoch: 2, index: 0 });
        assert_eq!(start.advance(13, 5), Cursor { epoch: 4, index: 1 });
        assert_eq!(start.advance(13, 5).row(5), start.row(5) + 13);
        assert_eq!(start.advance(u64::MAX, u64::MAX), Cursor { epoch: 2, index: 3 });
    }
}
