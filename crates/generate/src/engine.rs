//! The rows that a model is continuing: what each has read, and the logits of what comes next.
//!
//! All rows are read at once and then fed one token each. Rows of different lengths stand right-aligned in one padded
//! batch; padding is masked out and places count from a row's own first token, so a row's logits are those that it has
//! alone. A row that fills the context slides: it forgets its older half and reads the rest again.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use vulpes_model::{Input, KvCache, Run, Transformer};

use crate::Error;

/// Rows being continued.
pub(crate) struct Engine<'m> {
    model: &'m Transformer,
    rows: Vec<Row>,
    cache: KvCache,
    /// 1 for a real token, 0 for padding, for each column that the cache holds, row after row.
    keep: Vec<Vec<u8>>,
}

struct Row {
    /// What the model reads of the row: its end, once it has slid.
    window: Vec<u32>,
    /// Tokens forgotten at the row's beginning.
    n_forgotten: usize,
    is_done: bool,
    logits: Vec<f32>,
}

impl<'m> Engine<'m> {
    /// Reads `prompts`; of a prompt longer than the context only the end.
    pub(crate) fn new(model: &'m Transformer, prompts: &[&[u32]]) -> Result<Self, Error> {
        let context = model.config().context_len;
        let row = |prompt: &&[u32]| {
            let n_forgotten = prompt.len().saturating_sub(context);
            Row { window: prompt[n_forgotten..].to_vec(), n_forgotten, is_done: false, logits: Vec::new() }
        };
        let rows = prompts.iter().map(row).collect();
        let mut engine = Self { model, rows, cache: KvCache::of(model.config()), keep: Vec::new() };
        engine.read()?;
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
        let context = self.model.config().context_len;
        if self.cache.n_seen() < context
            && self.rows.iter().all(|row| row.is_done || row.window.len() <= context)
        {
            return self.step(tokens);
        }
        for row in self.rows.iter_mut().filter(|row| !row.is_done && row.window.len() > context) {
            let n_forgotten = row.window.len() - (context / 2).max(1);
            row.window.drain(..n_forgotten);
            row.n_forgotten += n_forgotten;
        }
        self.read()
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

/// A matrix as rows of float32, copied from the device once.
pub(crate) fn to_rows(matrix: &Tensor) -> candle_core::Result<Vec<Vec<f32>>> {
    matrix.to_dtype(DType::F32)?.to_vec2()
}
