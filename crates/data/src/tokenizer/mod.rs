//! Text to ids and back, on the `tokenizers` crate.
//!
//! [`Tokenizer::train`] (or [`Tokenizer::from_file`]) → [`Tokenizer::encode`] → ids → [`Tokenizer::decode`], or
//! [`DecodeStream`] one id at a time. Knows nothing of files of text or of batches.

mod assemble;
mod build;
mod check;
mod folder;
mod frame;
mod joints;
mod merges;
mod older;
mod pieces;
mod seams;
mod special;
mod stream;
#[cfg(test)]
mod tests;
mod unknown;

use std::path::Path;
use std::sync::Arc;

use tokenizers::models::ModelWrapper;
use tokenizers::tokenizer::Tokenizer as Inner;

use crate::config::TokenizerConfig;
use crate::corpus::{Cut, foreign};
use crate::error::{Error, Result};
pub(crate) use build::Counts;
pub(crate) use frame::{Frames, Use};
pub(crate) use pieces::{Encoder, Session};
use special::Special;
pub use stream::DecodeStream;
pub(crate) use unknown::Unsaid;

/// A text as ids, with the place of each in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<u32>,
    /// The tokens as the vocabulary spells them.
    pub tokens: Vec<String>,
    /// The bytes of the text that each token stands for; empty ranges for tokens that the tokenizer added.
    pub offsets: Vec<(usize, usize)>,
    /// Which text of a pair each token belongs to.
    pub type_ids: Vec<u32>,
    /// The pieces of the text that the vocabulary doesn't know, in order, each once: read as the unknown token, or lost
    /// where the tokenizer has none.
    pub unknown: Vec<String>,
}

/// A tokenizer: what `tokenizer.json` describes, with its special tokens found.
///
/// Truncation, padding and merges left out at random that a file switches on are switched off: batches are cut and
/// padded elsewhere, a corpus must never be cut in silence, and the same text always gives the same ids.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    json: Arc<str>,
    special: Special,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("special", &self.special)
            .finish()
    }
}

impl Tokenizer {
    /// A tokenizer trained on `texts`; the same texts and config give the same `tokenizer.json`, byte for byte.
    ///
    /// # Errors
    /// Where the config asks for `kind = "file"`, or for a larger vocabulary than the texts allow to fill.
    pub fn train<'a>(config: &TokenizerConfig, texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut counts = Counts::new(config)?;
        texts.into_iter().for_each(|text| counts.add(text));
        counts.finish()
    }

    /// The tokenizer of a `tokenizer.json`.
    ///
    /// # Errors
    /// Where the file can't be read, or isn't what the `tokenizers` crate writes.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::from_folder(path);
        }
        let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// A tokenizer for ids that nothing is known of: each of the `n_ids` is spelled as its number.
    ///
    /// # Errors
    /// None that is known.
    ///
    /// # Examples
    /// ```
    /// let tokenizer = vulpes_data::Tokenizer::numbers(300)?;
    /// assert_eq!(tokenizer.encode("7 299 0")?, [7, 299, 0]);
    /// assert_eq!(tokenizer.decode(&[7, 299], false)?, "7 299");
    /// # Ok::<(), vulpes_data::Error>(())
    /// ```
    pub fn numbers(n_ids: usize) -> Result<Self> {
        let vocabulary: serde_json::Map<_, _> = (0..n_ids).map(|id| (id.to_string(), id.into())).collect();
        let whole = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "0"},
        });
        Self::from_bytes(whole.to_string().as_bytes(), "numbers")
    }

    /// The tokenizer of a `tokenizer.json` in memory; `what` names it in errors.
    ///
    /// # Errors
    /// Where the bytes are not what the `tokenizers` crate writes.
    pub fn from_bytes(bytes: &[u8], what: &str) -> Result<Self> {
        let unfit = |error: &dyn std::fmt::Display| {
            let wanted = "wanted a tokenizer.json as the tokenizers library writes it";
            Error::tokenizer(what, format!("{error}; {wanted}"))
        };
        if let Some(message) = foreign(bytes) {
            return Err(Error::Foreign { path: what.into(), message });
        }
        let mut json = check::read(bytes).map_err(|error| unfit(&error))?;
        let mut inner = Inner::from_bytes(bytes).map_err(|error| unfit(&error))?;
        if matches!(inner.get_model(), ModelWrapper::BPE(bpe) if bpe.dropout.is_some()) {
            json["model"]["dropout"] = serde_json::Value::Null;
            inner = Inner::from_bytes(json.to_string()).map_err(|error| unfit(&error))?;
        }
        inner.with_truncation(None).map_err(|error| Error::tokenizer(what, error))?;
        inner.with_padding(None);
        Self::new(inner, what)
    }

    pub(crate) fn new(inner: Inner, what: &str) -> Result<Self> {
        let json = inner.to_string(true).map_err(|error| Error::tokenizer(what, error))?;
        let special = Special::find(&inner, &json);
        Ok(Self { inner: Arc::new(inner), json: json.into(), special, warnings: Vec::new() })
    }

    /// Names the token that ends a document.
    ///
    /// # Errors
    /// Where the vocabulary has no such token.
    pub fn with_eos(mut self, token: &str) -> Result<Self> {
        let id = self.token_to_id(token);
        self.special.eos = Some(id.ok_or_else(|| {
            Error::config("data.tokenizer.eos", format!("the vocabulary has no token {token:?}"))
        })?);
        Ok(self)
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.json.as_bytes()).map_err(|source| Error::io("write", path, source))
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// The ids of a text, without tokens that the tokenizer would add about it.
    ///
    /// # Errors
    /// Where the tokenizer has no token for a piece of the text, nor one for unknown pieces.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(encode_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A text with its tokens, their places, and what was unknown in it.
    ///
    /// `add_special_tokens`: whether the tokenizer's own frame (as BERT's `[CLS]` and `[SEP]`) comes about the text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_detailed(&self, text: &str, add_special_tokens: bool) -> Result<Encoded> {
        let encoding = self.inner.encode(text, add_special_tokens).map_err(encode_error)?;
        let mut unknown: Vec<String> = Vec::new();
        for piece in self.unknown_in(&encoding, text) {
            if !unknown.iter().any(|known| known == piece) {
                unknown.push(piece.into());
            }
        }
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            offsets: encoding.get_offsets().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            unknown,
        })
    }

    /// Where a text may be cut without a change to its tokens.
    pub(crate) fn cut(&self) -> Cut {
        self.special.cut
    }

    /// The text of ids; `skip_special_tokens` leaves out special tokens.
    ///
    /// # Errors
    /// Where the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.inner.decode(ids, skip_special_tokens).map_err(|error| Error::tokenizer("decode", error))
    }

    /// A decoder of one id after the other.
    pub fn decode_stream(&self, skip_special_tokens: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special_tokens)
    }

    /// A word of the vocabulary, to stand for one that it doesn't know.
    pub fn any_word(&self) -> Option<u32> {
        let is_word = |id: &u32| {
            let token = self.id_to_token(*id).filter(|_| !self.is_special(*id));
            token.is_some_and(|token| !token.is_empty() && token.bytes().all(|c| c.is_ascii_alphabetic()))
        };
        (0..self.vocab_size() as u32).find(is_word)
    }

    /// The token that an id stands for.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the greatest id: the number of rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.special.n_ids
    }

    /// The id of unknown pieces.
    pub fn unk_id(&self) -> Option<u32> {
        self.special.unk
    }

    /// The id of padding.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// The id that hides a token in masked-token training.
    pub fn mask_id(&self) -> Option<u32> {
        self.special.mask
    }

    /// The id that ends a document.
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// The id that opens a text, where the folder states one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// The id that a text without a word starts from: that which opens a text, or else that which ends one.
    pub fn start_id(&self) -> Option<u32> {
        self.special.bos.or(self.special.eos)
    }

    /// What reading the tokenizer's files had to say: one sentence each, for a person.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether an id is a special token: never masked, never drawn as a random token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.all.binary_search(&id).is_ok()
    }
}

fn encode_error(error: tokenizers::Error) -> Error {
    Error::tokenizer("encode", format!("{error}; the vocabulary needs a token for unknown pieces"))
}
