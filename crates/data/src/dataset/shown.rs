//! Rows for a person to read: their text, and which of it is learned.

use std::ops::Range;

use super::Dataset;
use super::row::Row;
use super::rows::Rows;
use crate::batch::IGNORED;
use crate::chat::stretches;
use crate::error::Result;

/// A training row for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownRow {
    /// The text: of conversations as the template wrote it, else the decoded ids.
    pub text: String,
    /// The ids, including a last one that is a target only.
    pub ids: Vec<u32>,
    /// The bytes of the text whose tokens are targets.
    pub learned: Vec<(usize, usize)>,
    /// The number of those tokens.
    pub n_learned: usize,
    /// The target label, for classification.
    pub label: Option<String>,
}

impl Dataset {
    /// The first `n` training rows in the order of the files; each text of a pair is a row.
    ///
    /// Conversations have a text if [`OpenOptions::keep_texts`](crate::OpenOptions::keep_texts) is set.
    ///
    /// # Errors
    /// Returns an error if a file of the corpus was changed, or the tokenizer's decoder fails.
    pub fn shown(&self, n: usize) -> Result<Vec<ShownRow>> {
        self.train.check()?;
        let mut all = Vec::new();
        for index in 0..self.n_rows().min(n as u64) {
            if let Rows::Chats(chats) = &self.train
                && let Some((text, bytes, learned)) = chats.shown(index)
            {
                let n_learned = learned.iter().filter(|&&learned| learned).count();
                let (learned, ids) = (stretches(&bytes, &learned), chats.row(index).ids);
                all.push(ShownRow { text, ids, learned, n_learned, label: None });
                continue;
            }
            let mut row = self.train.row(index);
            if let Some(masking) = &self.masking {
                masking.apply(&mut row, &mut self.mask_key.row(index));
            }
            match self.pairs {
                true => {
                    for text in row.into_pair() {
                        all.push(self.show(&Row { targets: Vec::new(), ..text })?);
                    }
                }
                false => all.push(self.show(&row)?),
            }
        }
        Ok(all)
    }

    /// A row shown with its decoded ids.
    fn show(&self, row: &Row) -> Result<ShownRow> {
        let mut ids = row.ids.clone();
        let asks = |target: &i64| *target != IGNORED;
        let is_causal = !self.fills_masks;
        let (label, learned) = match (self.per_row, is_causal) {
            (true, _) => (row.targets.first().map(|&target| self.name_of(target)), vec![false; ids.len()]),
            (false, true) => {
                // Each position predicts the token after it.
                let learned = [false].into_iter().chain(row.targets.iter().map(asks));
                ids.extend(row.targets.last().filter(|target| asks(target)).map(|&target| target as u32));
                (None, learned.take(ids.len()).collect())
            }
            (false, false) => (None, row.targets.iter().map(asks).collect()),
        };
        let (text, bytes) = self.text_of(&ids)?;
        let n_learned = learned.iter().filter(|&&learned| learned).count();
        Ok(ShownRow { text, ids, learned: stretches(&bytes, &learned), n_learned, label })
    }

    fn name_of(&self, label: i64) -> String {
        let named = usize::try_from(label).ok().and_then(|label| self.labels.get(label));
        named.cloned().unwrap_or_else(|| label.to_string())
    }

    /// The decoded text of ids, and the bytes of each; without a tokenizer the numbers themselves.
    fn text_of(&self, ids: &[u32]) -> Result<(String, Vec<Range<usize>>)> {
        let (mut text, mut bytes) = (String::new(), Vec::with_capacity(ids.len()));
        let Some(tokenizer) = &self.tokenizer else {
            for id in ids {
                let start = text.len();
                let blank = if text.is_empty() { "" } else { " " };
                text += &format!("{blank}{id}");
                bytes.push(start..text.len());
            }
            return Ok((text, bytes));
        };
        let mut stream = tokenizer.decode_stream(false);
        // Tokens before the last whose characters are still incomplete.
        let mut n_late = 0;
        for &id in ids {
            let start = text.len();
            text += &stream.push(id)?.unwrap_or_default();
            bytes.push(start..text.len());
            n_late = if text.len() == start { n_late + 1 } else { 0 };
        }
        let start = text.len();
        text += &stream.finish()?;
        let n = bytes.len();
        bytes[n - n_late.min(n)..].iter_mut().for_each(|bytes| *bytes = start..text.len());
        Ok((text, bytes))
    }
}
