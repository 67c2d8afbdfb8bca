//! What a tokenizer puts about a text, or a pair of texts, as BERT's `[CLS]` and `[SEP]`.

use tokenizers::tokenizer::{Encoding, PostProcessor, Token, Tokenizer as Inner};

use super::Tokenizer;
use crate::error::Result;

/// One place of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    what: What,
    /// Which text of a pair it counts to.
    text: u32,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Token(u32),
    First,
    Second,
}

/// The frames of a tokenizer that has some.
#[derive(Clone, Debug)]
pub(super) struct Frames {
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

impl Tokenizer {
    /// A text, or a pair of texts, in the tokenizer's own frame, cut to `max_len` tokens at the end of the longer
    /// text: ids, and which text each belongs to.
    ///
    /// A tokenizer without a frame ends each text by the end token.
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
        Ok(self.frame(&first, second.as_deref(), max_len))
    }

    /// The same for texts that are ids already.
    pub(crate) fn frame(
        &self,
        first: &[u32],
        second: Option<&[u32]>,
        max_len: Option<usize>,
    ) -> (Vec<u32>, Vec<u32>) {
        let ended;
        let slots = match (&self.special.frames, second) {
            (Some(frames), None) => frames.single.as_slice(),
            (Some(frames), Some(_)) => frames.pair.as_slice(),
            (None, second) => {
                ended = self.ended(second.is_some());
                ended.as_slice()
            }
        };
        let n_added = slots.iter().filter(|slot| matches!(slot.what, What::Token(_))).count();
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

    /// The end token after each text, where there is one.
    fn ended(&self, is_pair: bool) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (what, text) in [(What::First, 0), (What::Second, 1)].into_iter().take(1 + usize::from(is_pair)) {
            slots.push(Slot { what, text });
            slots.extend(self.eos_id().map(|eos| Slot { what: What::Token(eos), text }));
        }
        slots
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
