//! Predictions for many texts: batches of similar length on all threads, each equal to a single one.
//!
//! texts → [`Framed`] ids → batches by length → logits at the queried positions → tables or choices, in the order of
//! the texts.

use std::sync::atomic::{AtomicUsize, Ordering};

use vulpes_data::Tokenizer;
use vulpes_model::config::MaskKind;
use vulpes_model::{
    Embedder, Head, Input, ModelConfig, Pass, Transformer, kernel_threads, with_kernel_threads,
};

use crate::engine::to_rows;
use crate::error::Error;
use crate::next::{NextToken, next_tokens};
use crate::prompt::{Prompt, token_text};
use crate::sampler::{Choice, Sampler};
use crate::source::Source;
use crate::tables::{MaskTable, last_window, next_table};

/// Makes an answer from a row number, the number of a position in it, and the logits there.
type Answering<'a, T> = dyn Fn(usize, usize, &[f32]) -> Result<T, Error> + Sync + 'a;

/// The maximum number of rows of a batch: enough to keep a kernel busy, few enough for a batch per thread.
const MOST_ROWS: usize = 32;

/// A text, or a pair of texts, as a model reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    /// The ids, with the tokenizer's frame around the text.
    pub ids: Vec<u32>,
    /// Which text of a pair each id belongs to; `None` for a single text.
    pub types: Option<Vec<u32>>,
    /// How many tokens were cut off, as in training: for a classifier at the end of the longer text; for text to be
    /// continued at its beginning.
    pub n_cut: usize,
    /// Whether the text has pieces outside the vocabulary.
    pub has_unknown: bool,
}

impl Framed {
    /// Ids without a frame.
    pub fn of_ids(ids: Vec<u32>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// A text, or a pair, in the frame that `model` was trained on.
    ///
    /// # Errors
    /// Returns an error if the text is empty, or the tokenizer can't encode any of it.
    pub fn new(
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        text: &str,
        pair: Option<&str>,
    ) -> Result<Self, Error> {
        Self::within(config, tokenizer, text, pair, config.context_len)
    }

    /// The same, cut to at most `context` tokens.
    ///
    /// # Errors
    /// As for [`Framed::new`].
    pub fn within(
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        text: &str,
        pair: Option<&str>,
        context: usize,
    ) -> Result<Self, Error> {
        let context = context.min(config.context_len);
        let head = config.head;
        let Prompt { ids, unknown, .. } = Prompt::from_text(text, tokenizer, head == Head::NextToken)?;
        let mut has_unknown = !unknown.is_empty();
        if head == Head::NextToken {
            let (window, n_cut) = last_window(config, &ids);
            return Ok(Self { ids: window.to_vec(), types: None, n_cut, has_unknown });
        }
        let (mut ids, mut types) = match pair {
            None => (ids, Vec::new()),
            Some(other) => {
                has_unknown |= !tokenizer.encode_detailed(other, false)?.unknown.is_empty();
                tokenizer.encode_framed(text, pair, None)?
            }
        };
        let mut n_cut = 0;
        if ids.len() > context && head != Head::MaskedToken {
            n_cut = ids.len() - context;
            (ids, types) = tokenizer.encode_framed(text, pair, Some(context))?;
        }
        Ok(Self { ids, types: pair.map(|_| types), n_cut, has_unknown })
    }

    /// The same for many texts, on all threads; one result per text.
    pub fn all(
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        texts: &[(&str, Option<&str>)],
        context: usize,
    ) -> Vec<Result<Self, Error>> {
        let chunks: Vec<_> = texts.chunks(64).collect();
        let frame = |chunk: &&[(&str, Option<&str>)]| -> Vec<Result<Self, Error>> {
            chunk.iter().map(|(text, pair)| Self::within(config, tokenizer, text, *pair, context)).collect()
        };
        in_parallel(&chunks, kernel_threads(), &frame).into_iter().flatten().collect()
    }

    /// Why the model can't read this text; `None` if it can.
    pub fn problem(&self, config: &ModelConfig, tokenizer: &Tokenizer) -> Option<String> {
        let (n, context) = (self.ids.len(), config.context_len);
        if n == 0 {
            return Some("the text is empty".to_owned());
        }
        if let Some(id) = self.ids.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Some(format!("the tokenizer has id {id}, which the model doesn't know"));
        }
        if n > context {
            return Some(format!("the text has {n} tokens, and the model reads at most {context}"));
        }
        (config.head == Head::MaskedToken && masks(tokenizer, &self.ids).is_empty())
            .then(|| "the text has no mask to fill".to_owned())
    }
}

/// The `n` most likely labels of each row, largest first.
///
/// # Errors
/// Returns an error if the model is not a classifier, a row is empty or longer than the context, or an operation
/// fails.
pub fn label_tables(
    model: &Transformer,
    labels: &[String],
    rows: &[Framed],
    n: usize,
) -> Result<Vec<Vec<NextToken>>, Error> {
    if model.config().head.n_labels().is_none() {
        return Err(Error::Prompt("this model is not a classifier".into()));
    }
    let name = |id: u32| labels.get(id as usize).cloned().unwrap_or_else(|| format!("LABEL_{id}"));
    first_of_each(model, rows, vec![vec![0]; rows.len()], &|logits| next_tokens(logits, n, &name))
}

/// The embedding of each row.
///
/// # Errors
/// Returns an error if the model has a head, a row is empty or longer than the context, or an operation fails.
pub fn embeddings(model: &Transformer, embedder: Embedder, rows: &[Framed]) -> Result<Vec<Vec<f32>>, Error> {
    if !matches!(model.config().head, Head::Hidden { .. }) {
        return Err(Error::Prompt("this model has a head, so it returns no embedding of a text".into()));
    }
    let batches = batches(rows, (0..rows.len()).collect());
    let one = |batch: &Vec<usize>| -> Result<Vec<Vec<f32>>, Error> {
        let input = input_of(model, rows, batch)?;
        let hidden_btd = model.forward(&input, &mut Pass::inference())?;
        Ok(to_rows(&embedder.embed(&hidden_btd, &input)?)?)
    };
    let mut found = vec![Vec::new(); rows.len()];
    for (batch, vectors) in batches.iter().zip(in_parallel(&batches, n_threads(model), &one)) {
        for (&row, vector) in batch.iter().zip(vectors?) {
            found[row] = vector;
        }
    }
    Ok(found)
}

/// How many batches run in parallel: on a GPU one.
fn n_threads(model: &Transformer) -> usize {
    if model.device().is_cpu() { kernel_threads() } else { 1 }
}

/// The `n` most likely tokens after each row, largest first.
///
/// # Errors
/// As for [`label_tables`], if the model predicts no next token.
pub fn next_tables<'m>(
    model: impl Into<Source<'m>>,
    tokenizer: &Tokenizer,
    rows: &[Framed],
    n: usize,
) -> Result<Vec<Vec<NextToken>>, Error> {
    let model = match model.into() {
        Source::Tensors(model) => model,
        packed => return rows.iter().map(|row| next_table(packed, tokenizer, &row.ids, n)).collect(),
    };
    if model.config().head != Head::NextToken {
        return Err(Error::Prompt("this model does not predict the next token".into()));
    }
    let places = rows.iter().map(|row| vec![row.ids.len().saturating_sub(1)]).collect();
    first_of_each(model, rows, places, &|logits| next_tokens(logits, n, &|id| token_text(tokenizer, id)))
}

/// The `n` most likely tokens for each mask of each row.
///
/// # Errors
/// As for [`label_tables`], if the model fills no masks.
pub fn all_mask_tables(
    model: &Transformer,
    tokenizer: &Tokenizer,
    rows: &[Framed],
    n: usize,
) -> Result<Vec<Vec<MaskTable>>, Error> {
    let places: Vec<Vec<usize>> = rows.iter().map(|row| masks(tokenizer, &row.ids)).collect();
    let table = |logits: &[f32]| next_tokens(logits, n, &|id| token_text(tokenizer, id));
    let found = answers(model, rows, &places, &|_, _, logits| table(logits))?;
    let tables = |(places, found): (&Vec<usize>, Vec<Vec<NextToken>>)| {
        places.iter().zip(found).map(|(&position, next)| MaskTable { position, next }).collect()
    };
    Ok(places.iter().zip(found).map(tables).collect())
}

/// A row whose masks were filled.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// The ids, with the chosen ones in place of the masks.
    pub ids: Vec<u32>,
    /// The choices, from left to right.
    pub choices: Vec<Choice>,
}

/// Fills the masks of each row from left to right, each conditioned on those filled before it.
///
/// Row number i draws from stream `first + i` of the sampler's seed.
///
/// # Errors
/// As for [`all_mask_tables`].
pub fn fill_all(
    model: &Transformer,
    tokenizer: &Tokenizer,
    rows: &[Framed],
    sampler: &Sampler,
    first: u64,
) -> Result<Vec<Filled>, Error> {
    let masks: Vec<Vec<usize>> = rows.iter().map(|row| masks(tokenizer, &row.ids)).collect();
    let mut rows = rows.to_vec();
    let mut choices: Vec<Vec<Choice>> = vec![Vec::new(); rows.len()];
    for step in 0..masks.iter().map(Vec::len).max().unwrap_or(0) {
        let now: Vec<Vec<usize>> =
            masks.iter().map(|masks| masks.get(step).copied().into_iter().collect()).collect();
        let choose = |row: usize, _, logits: &[f32]| {
            sampler.choose(logits, &[], (first.wrapping_add(row as u64), step as u64))
        };
        for (row, chosen) in answers(model, &rows, &now, &choose)?.into_iter().enumerate() {
            for (mut choice, &place) in chosen.into_iter().zip(&now[row]) {
                if let Some(trace) = &mut choice.trace {
                    trace.name(&|id| token_text(tokenizer, id));
                }
                rows[row].ids[place] = choice.id;
                choices[row].push(choice);
            }
        }
    }
    Ok(rows.into_iter().zip(choices).map(|(row, choices)| Filled { ids: row.ids, choices }).collect())
}

fn masks(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<usize> {
    let mask = tokenizer.mask_id();
    (0..ids.len()).filter(|&place| Some(ids[place]) == mask).collect()
}

/// The answer at the single position of each row.
fn first_of_each<T: Send>(
    model: &Transformer,
    rows: &[Framed],
    places: Vec<Vec<usize>>,
    answer: &(dyn Fn(&[f32]) -> Result<T, Error> + Sync),
) -> Result<Vec<T>, Error> {
    let found = answers(model, rows, &places, &|_, _, logits| answer(logits))?;
    Ok(found.into_iter().flatten().collect())
}

/// The results of `answer` for the logits at the queried positions of each row, in the order of the rows; a row
/// without a queried position is not read.
fn answers<T: Send>(
    model: &Transformer,
    rows: &[Framed],
    places: &[Vec<usize>],
    answer: &Answering<'_, T>,
) -> Result<Vec<Vec<T>>, Error> {
    let asked: Vec<usize> = (0..rows.len()).filter(|&row| !places[row].is_empty()).collect();
    let batches = batches(rows, asked);
    let one = |batch: &Vec<usize>| -> Result<Vec<Vec<T>>, Error> {
        let mut logits = logits_of(model, rows, places, batch)?.into_iter();
        let of_row = |&row: &usize| {
            let own = logits.by_ref().take(places[row].len()).enumerate();
            own.map(|(number, logits)| answer(row, number, &logits)).collect()
        };
        batch.iter().map(of_row).collect()
    };
    let mut found: Vec<Vec<T>> = rows.iter().map(|_| Vec::new()).collect();
    for (batch, answers) in batches.iter().zip(in_parallel(&batches, n_threads(model), &one)) {
        for (&row, answers) in batch.iter().zip(answers?) {
            found[row] = answers;
        }
    }
    Ok(found)
}

/// Groups rows of similar length, with at most an eighth of a batch being padding.
fn batches(rows: &[Framed], mut numbers: Vec<usize>) -> Vec<Vec<usize>> {
    let len = |row: usize| rows[row].ids.len();
    numbers.sort_by_key(|&row| len(row));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for row in numbers {
        match batches.last_mut() {
            Some(batch) if batch.len() < MOST_ROWS && len(row) - len(batch[0]) <= len(row) / 8 => {
                batch.push(row);
            }
            _ => batches.push(vec![row]),
        }
    }
    batches
}

/// The rows of a batch as the model's input, padded to the longest.
fn input_of(model: &Transformer, rows: &[Framed], batch: &[usize]) -> Result<Input, Error> {
    let len = batch.iter().map(|&row| rows[row].ids.len()).max().unwrap_or(0);
    let filled = |part: &[u32], filler: u32| {
        let mut part = part.to_vec();
        part.resize(len, filler);
        part
    };
    let padding = model.config().pad_id.unwrap_or(0);
    let ids: Vec<u32> = batch.iter().flat_map(|&row| filled(&rows[row].ids, padding)).collect();
    let mut input = Input::new(&ids, batch.len(), model.device())?;
    if batch.iter().any(|&row| rows[row].types.is_some()) {
        let types = |&row: &usize| filled(rows[row].types.as_deref().unwrap_or_default(), 0);
        input = input.with_token_types(&batch.iter().flat_map(types).collect::<Vec<_>>())?;
    }
    // Under a causal mask no token sees the padding after it, but heads that pool a row must be masked.
    let reads_rows = matches!(model.config().head, Head::Classify { .. } | Head::Hidden { .. });
    let is_seen = model.config().mask == MaskKind::Full || reads_rows;
    if is_seen && batch.iter().any(|&row| rows[row].ids.len() < len) {
        let padding_mask = |&row: &usize| (0..len).map(move |place| u8::from(place < rows[row].ids.len()));
        input = input.with_padding_mask(batch.iter().flat_map(padding_mask).collect::<Vec<_>>().into());
    }
    Ok(input)
}

/// The logits at the positions of a batch, row after row: `[positions][v]`; of a classifier one per row.
fn logits_of(
    model: &Transformer,
    rows: &[Framed],
    places: &[Vec<usize>],
    batch: &[usize],
) -> Result<Vec<Vec<f32>>, Error> {
    let input = input_of(model, rows, batch)?;
    let len = input.ids.dim(1)?;
    let hidden_btd = model.forward(&input, &mut Pass::inference())?;
    if model.config().head.n_labels().is_some() {
        let hidden_btd = model.read_by_head(&hidden_btd, &input)?;
        return Ok(to_rows(&model.logits(&hidden_btd, &mut Pass::inference())?)?);
    }
    let place = |(number, &row): (usize, &usize)| {
        places[row].iter().map(move |&place| (number * len + place) as u32).collect::<Vec<_>>()
    };
    let index: Vec<u32> = batch.iter().enumerate().flat_map(place).collect();
    let index = candle_core::Tensor::from_slice(&index, index.len(), model.device())?;
    let asked = hidden_btd.flatten(0, 1)?.index_select(&index, 0)?.unsqueeze(0)?;
    Ok(to_rows(&model.logits(&asked, &mut Pass::inference())?.squeeze(0)?)?)
}

/// Runs `work` on each job, in order, on at most `n_threads` threads; the kernels of a job share the remaining
/// threads.
fn in_parallel<J: Sync, T: Send>(jobs: &[J], n_threads: usize, work: &(dyn Fn(&J) -> T + Sync)) -> Vec<T> {
    let n = n_threads.min(jobs.len());
    if n <= 1 {
        return jobs.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            match jobs.get(number) {
                Some(job) => done.push((number, work(job))),
                None => return done,
            }
        }
    };
    let inner = (n_threads / n).max(1);
    let mut done = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..n).map(|_| scope.spawn(|| with_kernel_threads(inner, take))).collect();
        let ends = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        let ends = ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.flatten().collect::<Vec<(usize, T)>>()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, found)| found).collect()
}

#[cfg(test)]
mod tests;
