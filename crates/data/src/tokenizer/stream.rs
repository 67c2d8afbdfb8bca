//! Ids to text, one id at a time.

use super::Tokenizer;

/// Decodes ids one by one; the pieces joined are the text that all ids decode to at once.
///
/// A piece can be delayed: an id may hold only the first bytes of a character, and a decoder may join a token to the
/// next.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special_tokens: bool,
    /// The ids since the last cut, and how many of them are covered by the text already returned.
    ids: Vec<u32>,
    n_given: usize,
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special_tokens: bool) -> Self {
        Self { tokenizer, skip_special_tokens, ids: Vec::new(), n_given: 0 }
    }

    /// Takes one id and returns the text that it completes, if any.
    ///
    /// # Errors
    /// Returns an error if the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> crate::error::Result<Option<String>> {
        self.ids.push(id);
        let text = self.decode(self.ids.len())?;
        if text.ends_with('\u{fffd}') {
            return Ok(None);
        }
        self.give(&text)
    }

    /// The rest: incomplete characters, shown as the replacement character.
    ///
    /// # Errors
    /// Returns an error if the tokenizer's decoder fails.
    pub fn finish(&mut self) -> crate::error::Result<String> {
        let text = self.decode(self.ids.len())?;
        Ok(self.give(&text)?.unwrap_or_default())
    }

    fn give(&mut self, text: &str) -> crate::error::Result<Option<String>> {
        let given = self.decode(self.n_given)?;
        let Some(new) = text.strip_prefix(given.as_str()) else { return Ok(None) };
        if new.is_empty() {
            return Ok(None);
        }
        let new = new.to_owned();
        // The ids of the last returned text stay, as the text of a token may depend on the one before it.
        self.ids.drain(..self.n_given);
        self.n_given = self.ids.len();
        Ok(Some(new))
    }

    fn decode(&self, n: usize) -> crate::error::Result<String> {
        self.tokenizer.decode(&self.ids[..n], self.skip_special_tokens)
    }
}
