//! The rows being generated: the tokens that each has read, and the logits of its next token.
//!
//! Every prompt is read at once, then each row is fed one token at a time. On the CPU a [`vulpes_model::Decoder`]
//! reads the next tokens of all rows together. Elsewhere rows of different lengths are right-aligned in one padded
//! batch; padding is masked out and positions count from a row's own first token, so a row's logits are those that it
//! has alone. A row that fills the context slides: it drops its older half and reads the rest again.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use vulpes_model::{Decoder, DecoderRow, Input, KvCache, Model, Pass, Transformer, kernel_threads};

use crate::error::Error;
use crate::lookup::Lookup;
use crate::source::{Hand, Source, all_of, read_whole};

/// Rows being generated.
pub(crate) struct Engine<'m> {
    /// `None` if prompts are read by the decoder.
    model: Option<&'m Transformer>,
    /// A custom model, which caches nothing.
    own: Option<&'m dyn Model>,
    context_len: usize,
    vocab_size: usize,
    rows: Vec<Row>,
    decoder: Option<Hand<'m>>,
    /// Without a decoder: the KV cache of all rows.
    cache: KvCache,
    /// Without a decoder, the padding mask per row: 1 for a real token, 0 for padding.
    padding_mask: Vec<Vec<u8>>,
}

struct Row {
    /// The tokens that the model sees: once the row has slid, its end.
    window: Vec<u32>,
    /// The number of tokens dropped at the row's beginning.
    n_truncated: usize,
    is_done: bool,
    /// The logits of the next token and, if tokens were guessed, those after each guess.
    logits: Vec<f32>,
    /// The guesses that were read, and how many of them have been confirmed.
    guesses: Vec<u32>,
    n_right: usize,
    decoded: Option<DecoderRow>,
}

impl<'m> Engine<'m> {
    /// Reads `prompts`; of a prompt longer than the context only the end.
    pub(crate) fn new(source: Source<'m>, prompts: &[&[u32]]) -> Result<Self, Error> {
        match source {
            Source::Tensors(model) => {
                Self::with_decoder(model, prompts, Decoder::new(model, kernel_threads())?)
            }
            Source::Decoder(lent) => {
                let config = lent.borrow().config().clone();
                Self::start(None, &config, prompts, Some(Hand::Lent(lent)))
            }
            Source::Own(model) => {
                let context_len = model.context_len();
                let mut engine = Self::empty(context_len, prompts);
                engine.own = Some(model);
                (0..engine.rows.len()).try_for_each(|row| engine.read_row(row))?;
                engine.vocab_size = engine.rows.first().map_or(0, |row| row.logits.len());
                Ok(engine)
            }
        }
    }

    fn with_decoder(
        model: &'m Transformer,
        prompts: &[&[u32]],
        decoder: Option<Decoder<'m>>,
    ) -> Result<Self, Error> {
        Self::start(Some(model), model.config(), prompts, decoder.map(|decoder| Hand::Own(Box::new(decoder))))
    }

    fn start(
        model: Option<&'m Transformer>,
        config: &vulpes_model::ModelConfig,
        prompts: &[&[u32]],
        decoder: Option<Hand<'m>>,
    ) -> Result<Self, Error> {
        let mut engine = Self {
            model,
            decoder,
            vocab_size: config.vocab_size,
            cache: KvCache::of(config),
            ..Self::empty(config.context_len, prompts)
        };
        if engine.decoder.is_some() {
            (0..engine.rows.len()).try_for_each(|row| engine.read_row(row))?;
        } else {
            engine.read()?;
        }
        Ok(engine)
    }

    /// The rows before anything was read.
    fn empty(context_len: usize, prompts: &[&[u32]]) -> Self {
        let row = |prompt: &&[u32]| {
            let n_truncated = prompt.len().saturating_sub(context_len);
            let window = prompt[n_truncated..].to_vec();
            let (logits, guesses) = (Vec::new(), Vec::new());
            Row { window, n_truncated, is_done: false, logits, guesses, n_right: 0, decoded: None }
        };
        let rows = prompts.iter().map(row).collect();
        let (model, own, decoder) = (None, None, None);
        Self {
            model,
            own,
            context_len,
            vocab_size: 0,
            rows,
            decoder,
            cache: KvCache::new(0),
            padding_mask: Vec::new(),
        }
    }

    /// The logits of the next token of a row.
    pub(crate) fn logits(&self, row: usize) -> &[f32] {
        let Row { logits, n_right, .. } = &self.rows[row];
        let from = (n_right * self.vocab_size).min(logits.len());
        &logits[from..(from + self.vocab_size).min(logits.len())]
    }

    /// How many tokens of the row's beginning the model no longer sees.
    pub(crate) fn n_truncated(&self, row: usize) -> usize {
        self.rows[row].n_truncated
    }

    /// Whether a chosen token of a row was guessed and read already, so that the logits after it are known.
    pub(crate) fn has_read(&mut self, row: usize, token: u32) -> bool {
        let Row { window, guesses, n_right, .. } = &mut self.rows[row];
        let is_right = guesses.get(*n_right) == Some(&token);
        if is_right {
            *n_right += 1;
            window.push(token);
        }
        is_right
    }

    /// Appends a token to each row; a row without one is finished. If `lookups` has a lookup per row, tokens after
    /// the new one are guessed and read together with it.
    pub(crate) fn push(
        &mut self,
        tokens: &[Option<u32>],
        lookups: Option<&mut [Lookup]>,
    ) -> Result<(), Error> {
        for (row, token) in self.rows.iter_mut().zip(tokens) {
            match token {
                Some(token) if !row.is_done => row.window.push(*token),
                _ => row.is_done = true,
            }
        }
        if self.decoder.is_some() {
            return self.decode(lookups);
        }
        if self.own.is_some() {
            let context = self.context_len;
            self.rows.iter_mut().for_each(|row| row.slide(context));
            let going_on: Vec<usize> = (0..self.rows.len()).filter(|row| !self.rows[*row].is_done).collect();
            return going_on.into_iter().try_for_each(|row| self.read_row(row));
        }
        if self.rows.iter().all(|row| row.is_done) {
            return Ok(());
        }
        let context = self.context_len;
        if self.cache.n_seen() < context
            && self.rows.iter().all(|row| row.is_done || row.window.len() <= context)
        {
            return self.step(tokens);
        }
        self.rows.iter_mut().for_each(|row| row.slide(context));
        self.read()
    }

    /// Reads a row's window from its beginning, for the decoder to continue.
    fn read_row(&mut self, number: usize) -> Result<(), Error> {
        let own = self.own;
        let (before, rest) = self.rows.split_at_mut(number);
        let row = &mut rest[0];
        (row.guesses, row.n_right) = (Vec::new(), 0);
        // Samples of one prompt share one pass over it.
        if let Some(twin) = before
            .last()
            .filter(|twin| twin.window == row.window && (twin.decoded.is_some() || own.is_some()))
        {
            row.logits.clone_from(&twin.logits);
            row.decoded.clone_from(&twin.decoded);
            return Ok(());
        }
        match (self.model, &mut self.decoder) {
            (Some(model), Some(Hand::Own(decoder))) => {
                let mut cache = KvCache::of(model.config());
                let input = Input::new(&row.window, 1, model.device())?;
                let hidden_btd = model.forward(&input, &mut Pass::cached(&mut cache))?;
                let last = hidden_btd.narrow(1, hidden_btd.dim(1)? - 1, 1)?;
                let logits = model.logits(&last, &mut Pass::inference())?.squeeze(1)?;
                row.logits = to_rows(&logits)?.swap_remove(0);
                row.decoded = Some(decoder.take_over(&cache, 0)?);
            }
            (_, Some(hand)) => {
                let (decoded, logits) = hand.read_prompt(&row.window)?;
                (row.decoded, row.logits) = (Some(decoded), logits);
            }
            (_, None) => {
                let Some(model) = own else { return Ok(()) };
                row.logits = read_whole(model, &row.window)?;
            }
        }
        Ok(())
    }

    /// Feeds the last tokens of all unfinished rows at once; a full row slides instead.
    fn decode(&mut self, mut lookups: Option<&mut [Lookup]>) -> Result<(), Error> {
        let context = self.context_len;
        let mut has_slid = vec![false; self.rows.len()];
        for (number, has_slid) in has_slid.iter_mut().enumerate() {
            let row = &mut self.rows[number];
            if !row.is_done && row.window.len() > context {
                row.slide(context);
                self.read_row(number)?;
                *has_slid = true;
            }
        }
        let mut next: Vec<Vec<u32>> = Vec::new();
        let mut fed = Vec::new();
        let goes_on = |(number, row): &(usize, &mut Row)| !row.is_done && !has_slid[*number];
        for (number, row) in self.rows.iter_mut().enumerate().filter(goes_on) {
            let Some(decoded) = &mut row.decoded else { continue };
            let n_kept = row.window.len() - 1;
            decoded.take_back(n_kept);
            let mut ids = vec![row.window[n_kept]];
            let n_guess = row.guesses.len();
            row.guesses.clear();
            if let Some(lookup) = lookups.as_mut().and_then(|all| all.get_mut(number)) {
                if n_guess > 0 {
                    lookup.learn(row.n_right, n_guess);
                }
                let mut guesses = lookup.guess(&row.window);
                guesses.truncate(context - row.window.len());
                if !guesses.is_empty() && decoded.can_take_back(1 + guesses.len()) {
                    ids.extend_from_slice(&guesses);
                    row.guesses = guesses;
                }
            }
            row.n_right = 0;
            fed.push(number);
            next.push(ids);
        }
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let mut all = Vec::new();
        let mut rows = self.rows.iter_mut().enumerate();
        let mut feeds = Vec::with_capacity(fed.len());
        for (&number, ids) in fed.iter().zip(&next) {
            let row = rows.by_ref().find(|(own, _)| *own == number);
            if let Some(decoded) = row.and_then(|(_, row)| row.decoded.as_mut()) {
                feeds.push(all_of(decoded, ids));
            }
        }
        if feeds.is_empty() {
            return Ok(());
        }
        decoder.read(&mut feeds, |logits| all.extend_from_slice(logits))?;
        let mut rest = all.as_slice();
        for (&number, ids) in fed.iter().zip(&next) {
            let (own, after) = rest.split_at(ids.len() * self.vocab_size);
            self.rows[number].logits.clear();
            self.rows[number].logits.extend_from_slice(own);
            rest = after;
        }
        Ok(())
    }

    /// Reads every unfinished row's window from its beginning.
    fn read(&mut self) -> Result<(), Error> {
        let Some(model) = self.model else { return Ok(()) };
        self.cache = KvCache::of(model.config());
        let windows: Vec<&[u32]> =
            self.rows.iter().map(|row| if row.is_done { &[][..] } else { row.window.as_slice() }).collect();
        let len = windows.iter().map(|window| window.len()).max().unwrap_or(0);
        if len == 0 {
            return Ok(());
        }
        let padded = |window: &&[u32]| -> Vec<u32> {
            std::iter::repeat_n(0, len - window.len()).chain(window.iter().copied()).collect()
        };
        let ids: Vec<u32> = windows.iter().flat_map(padded).collect();
        self.padding_mask =
            windows.iter().map(|w| (0..len).map(|i| u8::from(i >= len - w.len())).collect()).collect();
        let places = windows
            .iter()
            .flat_map(|w| (0..len).map(move |i| (i + w.len()).saturating_sub(len) as u32))
            .collect();
        self.forward(&ids, places)
    }

    /// Feeds each row its last token.
    fn step(&mut self, tokens: &[Option<u32>]) -> Result<(), Error> {
        let ids: Vec<u32> = tokens.iter().map(|token| token.unwrap_or(0)).collect();
        for (padding_mask, row) in self.padding_mask.iter_mut().zip(&self.rows) {
            padding_mask.push(u8::from(!row.is_done));
        }
        let places = self.rows.iter().map(|row| row.window.len().saturating_sub(1) as u32).collect();
        self.forward(&ids, places)
    }

    fn forward(&mut self, ids: &[u32], places: Vec<u32>) -> Result<(), Error> {
        let Some(model) = self.model else { return Ok(()) };
        let n = self.rows.len();
        let mut input = Input::new(ids, n, model.device())?.with_positions(&places)?;
        if self.padding_mask.iter().flatten().any(|&mark| mark == 0) {
            // The cache may hold less than was read: with windowed attention only the window.
            let first = self.cache.n_seen() - self.cache.len();
            input = input.with_padding_mask(Arc::from(
                self.padding_mask.iter().flat_map(|mask| &mask[first..]).copied().collect::<Vec<_>>(),
            ));
        }
        let hidden_btd = model.forward(&input, &mut Pass::cached(&mut self.cache))?;
        let last = hidden_btd.narrow(1, hidden_btd.dim(1)? - 1, 1)?;
        let logits = model.logits(&last, &mut Pass::inference())?.squeeze(1)?;
        for (row, logits) in self.rows.iter_mut().zip(to_rows(&logits)?) {
            row.logits = logits;
        }
        Ok(())
    }
}

impl Row {
    /// Drops the older half of a window that is longer than the context.
    fn slide(&mut self, context: usize) {
        if !self.is_done && self.window.len() > context {
            let n_truncated = self.window.len() - (context / 2).max(1);
            self.window.drain(..n_truncated);
            self.n_truncated += n_truncated;
        }
    }
}

/// A matrix as rows of float32, copied from the device at once.
pub(crate) fn to_rows(matrix: &Tensor) -> candle_core::Result<Vec<Vec<f32>>> {
    matrix.to_dtype(DType::F32)?.to_vec2()
}

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
