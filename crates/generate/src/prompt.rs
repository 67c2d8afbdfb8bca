//! A prompt as token ids.

use vulpes_data::Tokenizer;

use crate::error::Error;

/// A prompt in the tokenizer's ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The ids, with the tokenizer's frame around the text.
    pub ids: Vec<u32>,
    /// Pieces of the text outside the vocabulary: each became the unknown token, or was dropped if the tokenizer has
    /// none.
    pub unknown: Vec<String>,
    /// Whether the text itself begins with the tokens that the tokenizer prepends, so that they occur twice.
    pub opens_twice: bool,
}

impl Prompt {
    /// A text in the tokenizer's frame, like documents in training.
    ///
    /// `continued`: the text is to be continued, so the frame's closing tokens are left out; typed ones stay. An
    /// empty text to be continued starts as a document does: from the frame's opening tokens, the token that opens a
    /// text, or else the one that ends it.
    ///
    /// # Errors
    /// Returns an error if the tokenizer can't encode any of the text, or an empty text has nothing to start from.
    pub fn from_text(text: &str, tokenizer: &Tokenizer, continued: bool) -> Result<Self, Error> {
        let bare = tokenizer.encode_detailed(text, false)?;
        if bare.ids.is_empty() && !text.trim().is_empty() {
            let message = format!("no part of the prompt {text:?} is in the model's vocabulary");
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
            ids.push(
                start.ok_or_else(|| Error::Prompt("the prompt is empty; enter at least one word".into()))?,
            );
        }
        Ok(Self { ids, unknown: bare.unknown, opens_twice })
    }

    /// Ids without a frame.
    ///
    /// # Errors
    /// Returns an error if there are none, or one is outside a vocabulary of `vocab_size`.
    pub fn from_ids(ids: &[u32], vocab_size: usize) -> Result<Self, Error> {
        if ids.is_empty() {
            return Err(Error::Prompt("there are no ids; at least one is needed".into()));
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

/// Notes about a prompt for the user, one sentence each.
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
        notes.push(format!(
            "the tokenizer puts {opening} before every text, and this text begins with it, \
             too: it is read twice"
        ));
    }
    notes
}

/// The text of one token; the vocabulary's spelling if that is not complete text.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    let decoded = tokenizer.decode(&[id], false).unwrap_or_default();
    if decoded.is_empty() || decoded.contains('\u{fffd}') {
        return tokenizer.id_to_token(id).unwrap_or_else(|| format!("<{id}>"));
    }
    decoded
}
