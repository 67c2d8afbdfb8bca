//! Bulk encoding: text is cut where no token crosses the cut, and known pieces come from a cache.
//!
//! In running text most pieces (a word with the space before it and the punctuation after it) repeat, so the
//! tokenizer itself encodes new ones only. A new piece is cut further if its splitter allows it, as its parts may be
//! known. The ids are those of the complete text, as all cuts are where the splitter would cut.

use std::collections::HashMap;
use std::sync::Mutex;

use foldhash::fast::FixedState;

use super::Tokenizer;
use crate::corpus::{Cut, WHOLE_MB};
use crate::error::{Error, Result};

/// The maximum number of pieces in a cache, and the longest piece.
const N_PIECES: usize = 1 << 17;
const LONGEST: usize = 64;

/// Encodes bulk text on any number of threads.
#[derive(Debug)]
pub(crate) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// The caches that no thread uses at the moment.
    caches: Mutex<Vec<Pieces>>,
}

/// The ids of pieces, all in one vector.
#[derive(Debug, Default)]
struct Pieces {
    places: HashMap<Box<[u8]>, (u32, u32), FixedState>,
    ids: Vec<u32>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, caches: Mutex::new(Vec::new()) }
    }

    /// A cache for one thread; it is returned when the encoder is dropped.
    pub(crate) fn for_thread(&self) -> ThreadEncoder<'_> {
        let taken = self.caches.lock().map(|mut caches| caches.pop());
        ThreadEncoder { encoder: self, cache: taken.ok().flatten().unwrap_or_default() }
    }
}

/// An [`Encoder`] used by one thread.
#[derive(Debug)]
pub(crate) struct ThreadEncoder<'a> {
    encoder: &'a Encoder<'a>,
    cache: Pieces,
}

impl ThreadEncoder<'_> {
    /// Adds the ids of a text, equal to those of [`Tokenizer::encode`].
    pub(crate) fn encode(&mut self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let tokenizer = self.encoder.tokenizer;
        let cut = tokenizer.cut();
        if cut == Cut::Never {
            for part in tokenizer.parts(text) {
                if part.len() as u64 > WHOLE_MB << 20 {
                    let message = format!(
                        "a text of {} MB, which this tokenizer can't encode in parts; split it into shorter \
                         ones",
                        part.len() >> 20
                    );
                    return Err(Error::tokenizer("encode", message));
                }
                ids.extend(tokenizer.encode(part)?);
            }
            return Ok(());
        }
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut.first(rest));
            self.cache.encode(tokenizer, piece, ids)?;
            rest = after;
        }
        Ok(())
    }
}

impl Drop for ThreadEncoder<'_> {
    fn drop(&mut self) {
        if let Ok(mut caches) = self.encoder.caches.lock() {
            caches.push(std::mem::take(&mut self.cache));
        }
    }
}

impl Pieces {
    fn encode(&mut self, tokenizer: &Tokenizer, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
        if self.known(piece, ids) {
            return Ok(());
        }
        let start = ids.len();
        match tokenizer.special.seams.as_ref().filter(|seams| seams.fit(piece)) {
            None => ids.extend(tokenizer.encode(piece)?),
            Some(seams) => {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(seams.first(rest));
                    if !self.known(part, ids) {
                        let start = ids.len();
                        ids.extend(tokenizer.encode(part)?);
                        self.keep(part, &ids[start..]);
                    }
                    rest = after;
                }
            }
        }
        self.keep(piece, &ids[start..]);
        Ok(())
    }

    /// Adds the ids of a cached piece; returns whether it is cached.
    fn known(&self, piece: &str, ids: &mut Vec<u32>) -> bool {
        let Some(&(start, end)) = self.places.get(piece.as_bytes()) else { return false };
        ids.extend_from_slice(&self.ids[start as usize..end as usize]);
        true
    }

    fn keep(&mut self, piece: &str, ids: &[u32]) {
        if piece.len() > LONGEST {
            return;
        }
        // The next text resembles recent text more than older text.
        if self.places.len() >= N_PIECES {
            self.places.clear();
            self.ids.clear();
        }
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(ids);
        self.places.insert(piece.as_bytes().into(), (start, self.ids.len() as u32));
    }
}
