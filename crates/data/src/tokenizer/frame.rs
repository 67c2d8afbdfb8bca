//! Frames: the special tokens around a text or a pair, such as BERT's `[CLS]` and `[SEP]`.
//!
//! In training a document has further tokens, which depend on its use.

use serde::Serialize;
use tokenizers::tokenizer::{Encoding, PostProcessor, Token, Tokenizer as Inner};

use super::Tokenizer;
use crate::error::Result;

/// One position of a frame.
#[derive(Clone, Copy, Debug, Serialize)]
struct Slot {
    what: What,
    /// Which text of a pair it belongs to.
    text: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
enum What {
    Token(u32),
    First,
    Second,
}

/// The tokens around one text and around a pair of texts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Frames {
    single: Vec<Slot>,
    pair: Vec<Slot>,
}

impl Frames {
    /// The tokenizer's own frames, found by encoding texts of one token each.
    pub(super) fn of(inner: &Inner) -> Option<Self> {
        inner.get_post_processor().filter(|frame| frame.added_tokens(false) > 0)?;
        // No vocabulary has so many tokens.
        let (first, second) = (u32::MAX - 1, u32::MAX);
        let probe = |id, text| Encoding::from_tokens(vec![Token::new(id, String::new(), (0, 0))], text);
        let slots = |pair: Option<Encoding>| -> Option<Vec<Slot>> {
            let framed = inner.post_process(probe(first, 0), pair, true).ok()?;
            let slot = |(&id, &text)| {
                let what = match id {
                    id if id == first => What::First,
                    id if id == second => What::Second,
                    id => What::Token(id),
                };
                Slot { what, text }
            };
            Some(framed.get_ids().iter().zip(framed.get_type_ids()).map(slot).collect())
        };
        Some(Self { single: slots(None)?, pair: slots(Some(probe(second, 1)))? })
    }
}

/// The use of a document, as far as it determines the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Next-token prediction on separate documents: each opens with a token and ends with the end token.
    Continue,
    /// Next-token prediction on documents in one stream: the previous end token can be the opening.
    ContinueInStream,
    /// The complete text, or its masked tokens: framed like a prompt.
    Read,
    /// Masked tokens of documents in one stream: the end token separates them if the tokenizer has no frame.
    ReadInStream,
}

impl Frames {
    /// The tokens before the first text.
    pub(crate) fn before(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().map_while(|slot| slot.what.token())
    }

    /// The tokens after a text without a second.
    pub(crate) fn after(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().skip_while(|slot| slot.what != What::First).filter_map(|slot| slot.what.token())
    }

    /// Whether tokens of a pair belong to its second text.
    pub(crate) fn tells_texts_apart(&self) -> bool {
        self.pair.iter().any(|slot| slot.text > 0)
    }

    /// Texts in their frame, cut to `max_len` tokens at the end of the longer one: ids, and which text each belongs
    /// to.
    pub(crate) fn lay(
        &self,
        first: &[u32],
        second: Option<&[u32]>,
        max_len: Option<usize>,
    ) -> (Vec<u32>, Vec<u32>) {
        let slots = if second.is_some() { &self.pair } else { &self.single };
        let n_added = slots.iter().filter(|slot| slot.what.token().is_some()).count();
        let room = max_len.map_or(usize::MAX, |len| len.saturating_sub(n_added));
        let second = second.unwrap_or_default();
        let (n_first, n_second) = share(room, first.len(), second.len());
        let mut ids = Vec::with_capacity(n_first + n_second + n_added);
        let mut texts = Vec::with_capacity(ids.capacity());
        for slot in slots {
            match slot.what {
                What::Token(id) => ids.push(id),
                What::First => ids.extend_from_slice(&first[..n_first]),
                What::Second => ids.extend_from_slice(&second[..n_second]),
            }
            texts.resize(ids.len(), slot.text);
        }
        (ids, texts)
    }
}

impl What {
    fn token(self) -> Option<u32> {
        match self {
            Self::Token(id) => Some(id),
            Self::First | Self::Second => None,
        }
    }
}

impl Tokenizer {
    /// A text, or a pair of texts, as one document: in the tokenizer's own frame, cut to `max_len` tokens at the end
    /// of the longer text. Returns ids, and which text each belongs to.
    ///
    /// Without a frame a single text has no special tokens, and the end token after each text separates a pair.
    ///
    /// # Errors
    /// As for [`Tokenizer::encode`].
    pub fn encode_framed(
        &self,
        text: &str,
        pair: Option<&str>,
        max_len: Option<usize>,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let first = self.encode(text)?;
        let second = pair.map(|pair| self.encode(pair)).transpose()?;
        Ok(self.frames(Use::Read).lay(&first, second.as_deref(), max_len))
    }

    /// The tokens around a document's text.
    ///
    /// The tokenizer's own frame encloses every text, in training as in use. For next-token prediction a token also
    /// precedes the first word, and the end token follows the last.
    pub(crate) fn frames(&self, used: Use) -> Frames {
        let token = |id: u32, text| Slot { what: What::Token(id), text };
        let of = |what, text| Slot { what, text };
        let (first, second) = (of(What::First, 0), of(What::Second, 1));
        let ended = |slot: Slot| [Some(slot), self.eos_id().map(|eos| token(eos, slot.text))];
        let bare = || Frames {
            single: vec![first],
            pair: ended(first).into_iter().chain(ended(second)).flatten().collect(),
        };
        let mut frames = self.special.frames.clone().unwrap_or_else(bare);
        let is_framed = self.has_frame();
        let (opens, ends) = match used {
            Use::Continue => (self.start_id(), true),
            Use::ContinueInStream => (self.start_id().filter(|&id| Some(id) != self.eos_id()), true),
            Use::Read => (None, false),
            Use::ReadInStream => (None, !is_framed),
        };
        for slots in [&mut frames.single, &mut frames.pair] {
            if let Some(id) = opens.filter(|_| slots.first().is_some_and(|slot| slot.what.token().is_none()))
            {
                slots.insert(0, token(id, 0));
            }
            if let (true, Some(eos), Some(last)) = (ends, self.eos_id(), slots.last().copied())
                && last.what != What::Token(eos)
            {
                slots.push(token(eos, last.text));
            }
        }
        frames
    }

    /// The tokens that the tokenizer puts before a text.
    pub fn opening(&self) -> Vec<u32> {
        self.special.frames.as_ref().map_or_else(Vec::new, |frames| frames.before().collect())
    }

    /// Whether the tokenizer adds special tokens to a text, such as BERT's `[CLS]` and `[SEP]`.
    pub fn has_frame(&self) -> bool {
        self.special.frames.is_some()
    }
}

/// How many tokens each of two texts keeps of `room`: the longer one is cut, one token at a time.
fn share(room: usize, first: usize, second: usize) -> (usize, usize) {
    if first.saturating_add(second) <= room {
        return (first, second);
    }
    let half = room / 2;
    if first <= half {
        (first, room - first)
    } else if second <= half {
        (room - second, second)
    } else {
        (room - half, half)
    }
}
