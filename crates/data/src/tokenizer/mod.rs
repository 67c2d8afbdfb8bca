//! Text to ids and back, with the `tokenizers` crate.
//!
//! [`Tokenizer::train`] (or [`Tokenizer::from_file`]) → [`Tokenizer::encode`] → ids → [`Tokenizer::decode`], or
//! [`DecodeStream`] one id at a time. Independent of files of text and of batches.

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
pub(crate) use pieces::{Encoder, ThreadEncoder};
use special::Special;
pub use stream::DecodeStream;
pub(crate) use unknown::Unsaid;

/// A text as ids, with the position of each in the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<u32>,
    /// The tokens as spelled in the vocabulary.
    pub tokens: Vec<String>,
    /// The bytes of the text that each token covers; empty ranges for tokens that the tokenizer added.
    pub offsets: Vec<(usize, usize)>,
    /// Which text of a pair each token belongs to.
    pub type_ids: Vec<u32>,
    /// The distinct pieces of the text that are not in the vocabulary, in order: they became the unknown token, or
    /// were dropped if the tokenizer has none.
    pub unknown: Vec<String>,
}

/// A tokenizer, as described by `tokenizer.json`, with its special tokens.
///
/// Truncation, padding and BPE dropout of the file are switched off: batches are cut and padded elsewhere, a corpus
/// must never be truncated silently, and the same text always has the same ids.
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
    /// Returns an error for `kind = "file"`, or if the texts can't fill the vocabulary.
    pub fn train<'a>(config: &TokenizerConfig, texts: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut counts = Counts::new(config)?;
        texts.into_iter().for_each(|text| counts.add(text));
        counts.finish()
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Returns an error if the file can't be read or isn't in the format of the `tokenizers` crate.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::from_folder(path);
        }
        let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// A tokenizer for ids without text: each of the `n_ids` is spelled as its number.
    ///
    /// # Errors
    /// None known.
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
    /// Returns an error if the bytes are not in the format of the `tokenizers` crate.
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

    /// Sets the token that ends a document.
    ///
    /// # Errors
    /// Returns an error if the vocabulary has no such token.
    pub fn with_eos(mut self, token: &str) -> Result<Self> {
        let id = self.token_to_id(token);
        self.special.eos = Some(id.ok_or_else(|| {
            Error::config("data.tokenizer.eos", format!("the vocabulary has no token {token:?}"))
        })?);
        Ok(self)
    }

    /// The same with the special tokens that files beside it state: by name, and by id.
    pub(crate) fn stating(mut self, by_name: &[serde_json::Value], by_id: &[serde_json::Value]) -> Self {
        self.special.state(&self.inner, by_name, by_id);
        self
    }

    /// Writes `tokenizer.json`.
    ///
    /// # Errors
    /// Returns an error if the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.json.as_bytes()).map_err(|source| Error::io("write", path, source))
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// The ids of a text, without the special tokens that the tokenizer would add.
    ///
    /// # Errors
    /// Returns an error if the tokenizer has neither a token for a piece of the text nor an unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(encode_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A text with its tokens, their positions, and its unknown pieces.
    ///
    /// `add_special_tokens`: whether to add the tokenizer's own frame (such as BERT's `[CLS]` and `[SEP]`).
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
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

    /// Where a text may be cut without changing its tokens.
    pub(crate) fn cut(&self) -> Cut {
        self.special.cut
    }

    /// The text of ids; `skip_special_tokens` leaves out special tokens.
    ///
    /// # Errors
    /// Returns an error if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        self.inner.decode(ids, skip_special_tokens).map_err(|error| Error::tokenizer("decode", error))
    }

    /// A decoder that takes one id at a time.
    pub fn decode_stream(&self, skip_special_tokens: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special_tokens)
    }

    /// Some word of the vocabulary, to replace one that it doesn't contain.
    pub fn any_word(&self) -> Option<u32> {
        let is_word = |id: &u32| {
            let token = self.id_to_token(*id).filter(|_| !self.is_special(*id));
            token.is_some_and(|token| !token.is_empty() && token.bytes().all(|c| c.is_ascii_alphabetic()))
        };
        (0..self.vocab_size() as u32).find(is_word)
    }

    /// The token of an id.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the largest id: the number of rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.special.n_ids
    }

    /// The id of the unknown token.
    pub fn unk_id(&self) -> Option<u32> {
        self.special.unk
    }

    /// The id of the padding token.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// The id of the mask token.
    pub fn mask_id(&self) -> Option<u32> {
        self.special.mask
    }

    /// The id of the token that ends a document.
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// The id of the token that opens a text, if the folder gives one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// The id from which an empty text starts: the opening token, or else the end token.
    pub fn start_id(&self) -> Option<u32> {
        self.special.bos.or(self.special.eos)
    }

    /// Warnings from reading the tokenizer's files: one sentence each.
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
