//! Measures how much of a text the vocabulary doesn't cover.

use tokenizers::models::ModelWrapper;
use tokenizers::tokenizer::Encoding;

use super::Tokenizer;
use crate::error::Result;

/// How much of a text is not in the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsaid {
    /// The bytes that became the unknown token, or were dropped.
    pub(crate) lost: u64,
    /// All bytes except whitespace.
    pub(crate) of: u64,
}

impl Unsaid {
    /// The share of the text that is lost.
    pub(crate) fn share(self) -> f64 {
        self.lost as f64 / self.of.max(1) as f64
    }
}

impl Tokenizer {
    /// Counts the bytes of a text that are not in the vocabulary.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub(crate) fn unsaid(&self, text: &str) -> Result<Unsaid> {
        let visible = |text: &str| text.split_whitespace().map(str::len).sum::<usize>() as u64;
        let encoding = self.inner.encode(text, false).map_err(super::encode_error)?;
        let lost = self.unknown_in(&encoding, text).into_iter().map(visible).sum();
        Ok(Unsaid { lost, of: visible(text) })
    }

    /// The pieces of a text that became the unknown token, or were dropped.
    pub(super) fn unknown_in<'a>(&self, encoding: &Encoding, text: &'a str) -> Vec<&'a str> {
        let unk = self.unk_id();
        let spelled = unk.and_then(|unk| self.id_to_token(unk));
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (&id, &(start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            if Some(id) == unk && text.get(start..end) != spelled.as_deref() {
                places.push((start, end));
            }
        }
        if self.drops_letters() {
            let mut seen: Vec<(usize, usize)> = encoding.get_offsets().to_vec();
            seen.sort_unstable();
            let mut at = 0;
            for (start, end) in seen.into_iter().chain([(text.len(), text.len())]) {
                let gap = text.get(at..start).unwrap_or_default();
                let base = at;
                let words = gap.split_whitespace().map(|word| {
                    let start = base + word.as_ptr() as usize - gap.as_ptr() as usize;
                    (start, start + word.len())
                });
                places.extend(words);
                at = at.max(end);
            }
            places.sort_unstable();
        }
        let pieces = places.into_iter().filter_map(|(start, end)| text.get(start..end));
        pieces.filter(|piece| !piece.is_empty()).collect()
    }

    /// Whether letters outside the vocabulary vanish: BPE without an unknown token or byte fallback.
    fn drops_letters(&self) -> bool {
        match self.inner.get_model() {
            ModelWrapper::BPE(bpe) => bpe.unk_token.is_none() && !bpe.byte_fallback,
            _ => false,
        }
    }
}
