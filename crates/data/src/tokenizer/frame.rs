//! What stands about a text, or a pair of texts: the tokenizer's own tokens, as BERT's `[CLS]` and `[SEP]`, and what a
//! document in training has beside them.

use serde::Serialize;
use tokenizers::tokenizer::{Encoding, PostProcessor, Token, Tokenizer as Inner};

use super::Tokenizer;
use crate::error::Result;

/// One place of a frame.
#[derive(Clone, Copy, Debug, Serialize)]
struct Slot {
    what: What,
    /// Which text of a pair it counts to.
    text: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
enum What {
    Token(u32),
    First,
    Second,
}

/// What stands about one text and about a pair of texts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Frames {
    single: Vec<Slot>,
    pair: Vec<Slot>,
}

impl Frames {
    /// The tokenizer's own frames, read off from what it makes of texts of one token each.
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

/// What a document is learned for, as far as it decides what stands about its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The next token, of documents that are read by themselves: each opens with a token and ends with the end token.
    Continue,
    /// The next token, of documents in one stream: the end token of the one before can stand for the opening.
    ContinueInStream,
    /// The whole text, or its masked tokens: what a prompt has.
    Read,
    /// Masked tokens of documents in one stream: the end token parts them where the tokenizer frames none.
    ReadInStream,
}

impl Frames {
    /// The tokens before the first text.
    pub(crate) fn before(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().map_while(|slot| slot.what.token())
    }

    /// The tokens after a text that has no second.
    pub(crate) fn after(&self) -> impl Iterator<Item = u32> + '_ {
        self.single.iter().skip_while(|slot| slot.what != What::First).filter_map(|slot| slot.what.token())
    }

    /// Whether tokens of a pair count to its second text.
    pub(crate) fn tells_texts_apart(&self) -> bool {
        self.pair.iter().any(|slot| slot.text > 0)
    }

    /// Texts in their frame, cut to `max_len` tokens at the end of the longer one: ids, and which text each belongs to.
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
    /// A text, or a pair of texts, as a document that is read as a whole: in the tokenizer's own frame, cut to `max_len`
    /// tokens at the end of the longer text; ids, and which text each belongs to.
    ///
    /// Without a frame a single text stands alone, and the end token after each text parts a pair.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
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

    /// What stands about a document's text.
    ///
    /// The tokenizer's own frame comes about every text, in use as in training. For the next token something stands
    /// before the first word too, and the end token at the end.
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

    /// Whether the tokenizer puts tokens of its own about a text, as BERT's `[CLS]` and `[SEP]`.
    pub fn has_frame(&self) -> bool {
        self.special.frames.is_some()
    }
}

/// How many tokens each of two texts keeps of `room`: the longer one gives way, one token at a time.
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
