//! The rows of a corpus, and the batch at any cursor.

mod batches;
mod chat_rows;
#[cfg(test)]
mod chat_tests;
mod chats;
#[cfg(test)]
mod file_tests;
mod ids;
mod labels;
mod masking;
mod open;
mod order;
mod packing;
mod row;
#[cfg(test)]
mod row_tests;
mod rows;
#[cfg(test)]
mod scale_tests;
mod sets;
mod shown;
#[cfg(test)]
mod tests;
mod text;
mod unsaid;

pub use batches::{Batches, Rank};
pub use sets::OpenOptions;
pub use shown::ShownRow;

use vulpes_random::Key;

use crate::batch::Batch;
use crate::chat::ChatTemplate;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::tokenizer::Tokenizer;
use masking::Masking;
use order::Order;
use row::{Row, assemble};
use rows::Rows;

/// A corpus ready for training: its training rows, its validation rows and its tokenizer.
///
/// A batch ([`Dataset::batch`]) depends on the config, the seed and the cursor alone, so the cursor is the only state
/// that a resumed run needs.
#[derive(Debug)]
pub struct Dataset {
    train: Rows,
    validation: Option<Rows>,
    validation_rows: u64,
    tokenizer: Option<Tokenizer>,
    template: Option<ChatTemplate>,
    vocab_size: usize,
    labels: Vec<String>,
    n_labels: usize,
    warnings: Vec<String>,
    order: Order,
    masking: Option<Masking>,
    mask_key: Key,
    /// Whether a row has a single target, its label.
    per_row: bool,
    /// Whether each target is the token of its own position, not the next one.
    fills_masks: bool,
    /// Whether each row is a pair of texts, which are consecutive rows of a batch.
    pairs: bool,
    /// The length of every row, if they are windows.
    window: Option<usize>,
    pad: u32,
}

impl Dataset {
    /// The tokenizer, if the rows are made from text.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The chat template, if the rows are conversations.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// The number of rows that a token embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The labels by number, if they have names.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The number of labels, for classification.
    pub fn n_labels(&self) -> usize {
        self.n_labels
    }

    /// Warnings for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The number of training rows per epoch.
    pub fn n_rows(&self) -> u64 {
        self.train.len()
    }

    /// The number of tokens of the longest row, in training and validation.
    pub fn longest_row(&self) -> usize {
        self.train.longest().max(self.validation.as_ref().map_or(0, Rows::longest))
    }

    /// The number of training tokens.
    pub fn n_tokens(&self) -> u64 {
        self.train.n_tokens()
    }

    /// The number of validation rows used by an evaluation.
    pub fn n_validation_rows(&self) -> u64 {
        self.validation_rows
    }

    /// The number of validation tokens, evaluated or not.
    pub fn n_validation_tokens(&self) -> u64 {
        self.validation.as_ref().map_or(0, Rows::n_tokens)
    }

    /// The cursor `rows` rows further on.
    pub fn advance(&self, cursor: Cursor, rows: u64) -> Cursor {
        cursor.advance(rows, self.n_rows())
    }

    /// The `rows` training rows from `cursor` on, continued in the next epoch if this one ends.
    ///
    /// # Errors
    /// Returns an error if a file of the corpus was changed.
    pub fn batch(&self, cursor: Cursor, rows: usize) -> Result<Batch> {
        self.train.check()?;
        let n_rows = self.n_rows();
        let first_row = cursor.row(n_rows);
        let indices = self.order.rows(&self.train, cursor, rows);
        let all = indices
            .into_iter()
            .zip(0..)
            .map(|(index, number)| {
                // Synthetic rows are the same in every batch.
                let index = if matches!(self.train, Rows::Synthetic { .. }) { number } else { index };
                let mut row = self.train.row(index);
                if let Some(masking) = &self.masking {
                    masking.apply(&mut row, &mut self.mask_key.row(first_row + number));
                }
                row
            })
            .collect();
        Ok(self.assemble(all, first_row))
    }

    /// The numbers of the `rows` training rows from `cursor` on, in the order of [`Dataset::batch`]: a row has the
    /// same number in every epoch.
    pub fn row_numbers(&self, cursor: Cursor, rows: usize) -> Vec<u64> {
        self.order.rows(&self.train, cursor, rows)
    }

    /// Training row `number` alone, without masking.
    ///
    /// # Errors
    /// Returns an error if a file of the corpus was changed.
    pub fn row(&self, number: u64) -> Result<Batch> {
        self.train.check()?;
        Ok(self.assemble(vec![self.train.row(number)], number))
    }

    /// The validation rows in batches of `rows`, always the same: in order, and masked with a fixed key.
    pub fn validation_batches(&self, rows: usize) -> impl Iterator<Item = Result<Batch>> + '_ {
        let rows = rows.max(1) as u64;
        let key = Key::new(0, "masking").with("validation");
        (0..self.validation_rows.div_ceil(rows)).filter_map(move |number| {
            let set = self.validation.as_ref()?;
            if let Err(error) = set.check() {
                return Some(Err(error));
            }
            let first = number * rows;
            let all = (first..(first + rows).min(self.validation_rows))
                .map(|index| {
                    let mut row = set.row(index);
                    if let Some(masking) = &self.masking {
                        masking.apply(&mut row, &mut key.row(index));
                    }
                    row
                })
                .collect();
            Some(Ok(self.assemble(all, first)))
        })
    }

    /// The batch of these rows, the first of which has number `first_row`; a pair makes two rows.
    fn assemble(&self, rows: Vec<Row>, first_row: u64) -> Batch {
        if !self.pairs {
            return assemble(rows, self.window, self.pad, self.per_row, first_row);
        }
        let texts = rows.into_iter().flat_map(Row::into_pair).collect();
        assemble(texts, self.window, self.pad, self.per_row, 2 * first_row)
    }
}
