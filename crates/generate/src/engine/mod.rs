//! The rows that a model is continuing: what each has read, and the logits of what comes next.
//!
//! Every prompt is read at once, then each row is fed one token at a time. On the CPU each row has its own
//! [`Decoder`] state. Elsewhere rows of different lengths stand right-aligned in one padded batch; padding is masked out
//! and places count from a row's own first token, so a row's logits are those that it has alone. A row that fills the
//! context slides: it forgets its older half and reads the rest again.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use vulpes_model::{Decoder, DecoderRow, Input, KvCache, Run, Transformer, kernel_threads};

use crate::error::Error;

/// Rows being continued.
pub(crate) struct Engine<'m> {
    model: &'m Transformer,
    rows: Vec<Row>,
    decoder: Option<Decoder<'m>>,
    /// Without a decoder: keys and values of all rows.
    cache: KvCache,
    /// Without a decoder: 1 for a real token, 0 for padding, for each token read, row after row.
    keep: Vec<Vec<u8>>,
}

struct Row {
    /// What the model reads of the row: its end, once it has slid.
    window: Vec<u32>,
    /// Tokens forgotten at the row's beginning.
    n_forgotten: usize,
    is_done: bool,
    logits: Vec<f32>,
    decoded: Option<DecoderRow>,
}

impl<'m> Engine<'m> {
    /// Reads `prompts`; of a prompt longer than the context only the end.
    pub(crate) fn new(model: &'m Transformer, prompts: &[&[u32]]) -> Result<Self, Error> {
        Self::with_decoder(model, prompts, Decoder::new(model, kernel_threads())?)
    }

    fn with_decoder(
        model: &'m Transformer,
        prompts: &[&[u32]],
        decoder: Option<Decoder<'m>>,
    ) -> Result<Self, Error> {
        let context = model.config().context_len;
        let row = |prompt: &&[u32]| {
            let n_forgotten = prompt.len().saturating_sub(context);
            let window = prompt[n_forgotten..].to_vec();
            Row { window, n_forgotten, is_done: false, logits: Vec::new(), decoded: None }
        };
        let rows = prompts.iter().map(row).collect();
        let mut engine = Self { model, rows, decoder, cache: KvCache::of(model.config()), keep: Vec::new() };
        if engine.decoder.is_some() {
            (0..engine.rows.len()).try_for_each(|row| engine.read_row(row))?;
        } else {
            engine.read()?;
        }
        Ok(engine)
    }

    /// The logits of what comes next in a row.
    pub(crate) fn logits(&self, row: usize) -> &[f32] {
        &self.rows[row].logits
    }

    /// How many tokens of the row's beginning the model no longer sees.
    pub(crate) fn n_forgotten(&self, row: usize) -> usize {
        self.rows[row].n_forgotten
    }

    /// Appends a token to each row; a row without one is finished.
    pub(crate) fn push(&mut self, tokens: &[Option<u32>]) -> Result<(), Error> {
        for (row, token) in self.rows.iter_mut().zip(tokens) {
            match token {
                Some(token) if !row.is_done => row.window.push(*token),
                _ => row.is_done = true,
            }
        }
        if self.decoder.is_some() {
            return tokens.iter().enumerate().try_for_each(|(row, token)| match token {
                Some(token) => self.decode(row, *token),
                None => Ok(()),
            });
        }
        if self.rows.iter().all(|row| row.is_done) {
            return Ok(());
        }
        let context = self.model.config().context_len;
        if self.cache.n_seen() < context
            && self.rows.iter().all(|row| row.is_done || row.window.len() <= context)
        {
            return self.step(tokens);
        }
        self.rows.iter_mut().for_each(|row| row.slide(context));
        self.read()
    }

    /// Reads a row's window from its beginning, for the decoder to go on from.
    fn read_row(&mut self, number: usize) -> Result<(), Error> {
        let Some(decoder) = &self.decoder else { return Ok(()) };
        let (before, rest) = self.rows.split_at_mut(number);
        let row = &mut rest[0];
        // Samples of one prompt need it read only once.
        if let Some(twin) = before.last().filter(|twin| twin.window == row.window && twin.decoded.is_some()) {
            row.logits.clone_from(&twin.logits);
            row.decoded.clone_from(&twin.decoded);
            return Ok(());
        }
        let mut cache = KvCache::of(self.model.config());
        let input = Input::new(&row.window, 1, self.model.device())?;
        let hidden_btd = self.model.forward(&input, &mut Run::cached(&mut cache))?;
        let last = hidden_btd.narrow(1, hidden_btd.dim(1)? - 1, 1)?;
        let logits = self.model.logits(&last, &mut Run::inference())?.squeeze(1)?;
        row.logits = to_rows(&logits)?.swap_remove(0);
        row.decoded = Some(decoder.take_over(&cache, 0)?);
        Ok(())
    }

    /// Feeds a row one token through the decoder; a full row slides instead.
    fn decode(&mut self, number: usize, token: u32) -> Result<(), Error> {
        let context = self.model.config().context_len;
        let row = &mut self.rows[number];
        if row.window.len() > context {
            row.slide(context);
            return self.read_row(number);
        }
        if let (Some(decoder), Some(decoded)) = (&mut self.decoder, &mut row.decoded) {
            row.logits.clear();
            row.logits.extend_from_slice(decoder.step(decoded, token)?);
        }
        Ok(())
    }

    /// Reads every unfinished row's window from its beginning.
    fn read(&mut self) -> Result<(), Error> {
        self.cache = KvCache::of(self.model.config());
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
        self.keep =
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
        for (keep, row) in self.keep.iter_mut().zip(&self.rows) {
            keep.push(u8::from(!row.is_done));
        }
        let places = self.rows.iter().map(|row| row.window.len().saturating_sub(1) as u32).collect();
        self.forward(&ids, places)
    }

    fn forward(&mut self, ids: &[u32], places: Vec<u32>) -> Result<(), Error> {
        let n = self.rows.len();
        let mut input = Input::new(ids, n, self.model.device())?.with_positions(&places)?;
        if self.keep.iter().flatten().any(|&mark| mark == 0) {
            // The cache may hold less than was read: of a windowed model only the window.
            let first = self.cache.n_seen() - self.cache.len();
            input = input.with_keep(Arc::from(
                self.keep.iter().flat_map(|keep| &keep[first..]).copied().collect::<Vec<_>>(),
            ));
        }
        let hidden_btd = self.model.forward(&input, &mut Run::cached(&mut self.cache))?;
        let last = hidden_btd.narrow(1, hidden_btd.dim(1)? - 1, 1)?;
        let logits = self.model.logits(&last, &mut Run::inference())?.squeeze(1)?;
        for (row, logits) in self.rows.iter_mut().zip(to_rows(&logits)?) {
            row.logits = logits;
        }
        Ok(())
    }
}

impl Row {
    /// Forgets the older half of a window that is longer than the context.
    fn slide(&mut self, context: usize) {
        if !self.is_done && self.window.len() > context {
            let n_forgotten = self.window.len() - (context / 2).max(1);
            self.window.drain(..n_forgotten);
            self.n_forgotten += n_forgotten;
        }
    }
}

/// A matrix as rows of float32, copied from the device once.
pub(crate) fn to_rows(matrix: &Tensor) -> candle_core::Result<Vec<Vec<f32>>> {
    matrix.to_dtype(DType::F32)?.to_vec2()
}

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
