//! What a person asks, as token ids.

use vulpes_data::Tokenizer;

use crate::error::Error;

/// A prompt in the tokenizer's ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The ids, with the frame that the tokenizer sets about a text.
    pub ids: Vec<u32>,
    /// Pieces of the text that the vocabulary doesn't know; each became the unknown token.
    pub unknown: Vec<String>,
}

impl Prompt {
    /// A text, in the frame that the tokenizer gives it.
    ///
    /// `continued`: the text is to go on, so an end token that the frame closes with is left out. An empty text that is
    /// to go on starts from the end token, as a document after another does.
    ///
    /// # Errors
    /// Where the tokenizer has no token for a piece of the text, or an empty text nothing to start from.
    pub fn from_text(text: &str, tokenizer: &Tokenizer, continued: bool) -> Result<Self, Error> {
        let encoded = tokenizer.encode_detailed(text, true)?;
        let mut ids = encoded.ids;
        if continued && ids.len() > 1 && ids.last().copied() == tokenizer.eos_id() {
            ids.pop();
        }
        if ids.is_empty() {
            let start = tokenizer.eos_id().filter(|_| continued);
            ids.push(start.ok_or_else(|| Error::Prompt("the prompt is empty: give it a word".into()))?);
        }
        Ok(Self { ids, unknown: encoded.unknown })
    }

    /// Ids as they are.
    ///
    /// # Errors
    /// Where there is none, or one is outside a vocabulary of `vocab_size`.
    pub fn from_ids(ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        if ids.is_empty() {
            return Err(Error::Prompt("there are no ids: give at least one".into()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::Prompt(format!(
                "id {id} is outside the vocabulary: ids go from 0 to {}",
                vocab_size.saturating_sub(1)
            )));
        }
        Ok(Self { ids: ids.to_vec(), unknown: Vec::new() })
    }
}

/// The text of one token by itself; the vocabulary's spelling where that is no whole text.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    let decoded = tokenizer.decode(&[id], false).unwrap_or_default();
    if decoded.is_empty() || decoded.contains('\u{fffd}') {
        return tokenizer.id_to_token(id).unwrap_or_else(|| format!("<{id}>"));
    }
    decoded
}
