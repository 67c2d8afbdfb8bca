//! What a person asks, as token ids.

use vulpes_data::Tokenizer;

use crate::error::Error;

/// A prompt in the tokenizer's ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The ids, with the frame that the tokenizer sets about a text.
    pub ids: Vec<u32>,
    /// Pieces of the text that the vocabulary doesn't know: each became the unknown token, or nothing where the tokenizer
    /// has none.
    pub unknown: Vec<String>,
    /// Whether the text itself begins with the tokens that the tokenizer puts before it, so that they stand there twice.
    pub opens_twice: bool,
}

impl Prompt {
    /// A text, in the frame that the tokenizer gives it, as documents have it in training.
    ///
    /// `continued`: the text is to go on, so what the frame closes with is left out; what was typed stays. An empty text
    /// that is to go on starts as a document does: from what the frame opens with, the token that opens a text, or else
    /// the one that ends it.
    ///
    /// # Errors
    /// Where the tokenizer can't say any of the text, or an empty text has nothing to start from.
    pub fn from_text(text: &str, tokenizer: &Tokenizer, continued: bool) -> Result<Self, Error> {
        let bare = tokenizer.encode_detailed(text, false)?;
        if bare.ids.is_empty() && !text.trim().is_empty() {
            let message = format!("nothing of the prompt {text:?} is in the model's vocabulary");
            return Err(Error::Prompt(message));
        }
        let opening = tokenizer.opening();
        let opens_twice = !opening.is_empty() && bare.ids.starts_with(&opening);
        let mut ids = match continued {
            true => [opening, bare.ids].concat(),
            false => tokenizer.encode_framed(text, None, None)?.0,
        };
        if ids.is_empty() {
            let start = tokenizer.start_id().filter(|_| continued);
            ids.push(start.ok_or_else(|| Error::Prompt("the prompt is empty: give it a word".into()))?);
        }
        Ok(Self { ids, unknown: bare.unknown, opens_twice })
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
        Ok(Self { ids: ids.to_vec(), ..Self::default() })
    }
}

/// What is worth saying about a prompt before it is used, one sentence each.
pub fn notes(prompt: &Prompt, tokenizer: &Tokenizer) -> Vec<String> {
    let mut notes = Vec::new();
    if !prompt.unknown.is_empty() {
        let words: Vec<String> = prompt.unknown.iter().map(|word| format!("{word:?}")).collect();
        let read = match tokenizer.unk_id() {
            Some(unk) => format!("read as {}", token_text(tokenizer, unk)),
            None => "left out".to_owned(),
        };
        notes.push(format!("not in the vocabulary, {read}: {}", words.join(", ")));
    }
    if prompt.opens_twice {
        let opening: String = tokenizer.opening().iter().map(|&id| token_text(tokenizer, id)).collect();
        notes.push(format!("the tokenizer puts {opening} before every text, and this one begins with it too: it is read twice"));
    }
    notes
}

/// The text of one token by itself; the vocabulary's spelling where that is no whole text.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    let decoded = tokenizer.decode(&[id], false).unwrap_or_default();
    if decoded.is_empty() || decoded.contains('\u{fffd}') {
        return tokenizer.id_to_token(id).unwrap_or_else(|| format!("<{id}>"));
    }
    decoded
}
