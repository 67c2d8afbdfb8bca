//! Opens a dataset: its rows by the kind of its files, their order and their masks.

use vulpes_random::Key;

use super::masking::Masking;
use super::order::Order;
use super::rows::Rows;
use super::sets::{OpenOptions, Sets};
use super::{Dataset, chats, ids, text};
use crate::batch::Batch;
use crate::config::{DataConfig, DataKind, ObjectiveConfig, ObjectiveKind, RowKind};
use crate::corpus::Labels;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

impl Dataset {
    /// Opens the corpus that the config describes.
    ///
    /// # Errors
    /// Returns an error if the config has issues, a file can't be read or has wrong contents, or there is too little
    /// text.
    pub fn open(data: &DataConfig, objective: &ObjectiveConfig, options: &OpenOptions<'_>) -> Result<Self> {
        if let Some(issue) = data.issues(objective).into_iter().chain(objective.issues()).next() {
            return Err(Error::Config { key: issue.path, message: issue.message });
        }
        if options.context_len == 0 {
            return Err(Error::config(options.len_key, "0 leaves no room for a token; set 1 or more"));
        }
        // A share of 0 means none.
        let share = data.validation_fraction.filter(|share| *share > 0.0);
        let data = &DataConfig { validation_fraction: share, ..data.clone() };
        let sets = match data.kind {
            DataKind::Synthetic => synthetic(options)?,
            DataKind::Ids => ids::open(data, objective, options)?,
            DataKind::Chat => chats::open(data, options)?,
            DataKind::Text | DataKind::Jsonl | DataKind::Csv | DataKind::Parquet => {
                text::open(data, objective, options)?
            }
        };
        let masks = objective.kind() == ObjectiveKind::MaskedToken
            && !matches!(&sets.train, Rows::Ids { rows, .. } if rows.iter().all(|row| row.labels != Labels::None));
        let masking = masks.then(|| Masking::new(objective, sets.tokenizer.as_ref())).transpose()?;
        let n_validation = sets.validation.as_ref().map_or(0, Rows::len);
        let tokenizer = sets.tokenizer;
        let dataset = Self {
            validation_rows: data.validation_rows.unwrap_or(u64::MAX).min(n_validation),
            vocab_size: sets.vocab_size,
            labels: sets.labels,
            n_labels: sets.n_labels,
            warnings: sets.warnings,
            order: Order::new(
                (data.shuffle && options.shuffle).then(|| Key::new(options.seed, "shuffle")),
                data.bucket,
            ),
            masking,
            mask_key: Key::new(options.seed, "masking").with("train"),
            per_row: matches!(objective.kind(), ObjectiveKind::Classify | ObjectiveKind::Contrastive),
            fills_masks: objective.kind() == ObjectiveKind::MaskedToken,
            pairs: objective.kind() == ObjectiveKind::Contrastive,
            // Conversations that share a row don't always fill it.
            window: (data.row_kind(objective) == RowKind::Windows && data.kind != DataKind::Chat)
                .then_some(options.context_len),
            template: sets.template,
            pad: tokenizer.as_ref().and_then(|t| t.pad_id().or(t.eos_id())).unwrap_or(0),
            train: sets.train,
            validation: sets.validation,
            tokenizer,
        };
        dataset.check_targets(data)?;
        Ok(dataset)
    }

    /// Checks that each set has a target: a mean over nothing is not a loss.
    ///
    /// # Errors
    /// Returns an error that names the set, and what its rows are made of.
    fn check_targets(&self, data: &DataConfig) -> Result<()> {
        let n_rows = self.n_rows();
        let starts = (0..n_rows.div_ceil(LOOKED_AT)).map(|number| number * LOOKED_AT);
        let training = starts.map(|index| {
            let rows = LOOKED_AT.min(n_rows - index) as usize;
            self.batch(Cursor { epoch: 0, index }, rows)
        });
        let key = if data.validation.is_empty() { "data.validation_fraction" } else { "data.validation" };
        let why = match (&self.masking, &self.tokenizer) {
            (Some(_), Some(tokenizer)) if tokenizer.unk_id().is_some() => {
                ": special tokens alone, and words that the vocabulary doesn't know, are never masked"
            }
            _ => ": nothing can be learned or measured",
        };
        let none = |key: &str| Err(Error::config(key, format!("no row has a target{why}")));
        if !asks(training)? {
            return none("data.train");
        }
        if self.validation_rows > 0 && !asks(self.validation_batches(LOOKED_AT as usize))? {
            return none(key);
        }
        Ok(())
    }
}

impl DataConfig {
    /// Opens the corpus for a model that predicts the next token in rows of `context_len` tokens; `seed` sets the
    /// order of the rows. [`Dataset::open`] has all options.
    ///
    /// # Errors
    /// As for [`Dataset::open`].
    pub fn open(&self, context_len: usize, seed: u64) -> Result<Dataset> {
        Dataset::open(self, &ObjectiveConfig::default(), &OpenOptions::new(context_len, seed))
    }

    /// The same with the tokenizer of an existing model.
    ///
    /// # Errors
    /// As for [`Dataset::open`].
    pub fn open_with(&self, tokenizer: &Tokenizer, context_len: usize, seed: u64) -> Result<Dataset> {
        let options = OpenOptions { tokenizer: Some(tokenizer), ..OpenOptions::new(context_len, seed) };
        Dataset::open(self, &ObjectiveConfig::default(), &options)
    }
}

/// Whether one of the batches has a target.
fn asks(mut batches: impl Iterator<Item = Result<Batch>>) -> Result<bool> {
    let found = batches.find_map(|batch| match batch {
        Ok(batch) if batch.n_targets() == 0 => None,
        other => Some(other.map(|_| true)),
    });
    found.unwrap_or(Ok(false))
}

/// How many rows are searched for a target at a time: usually the first has one.
const LOOKED_AT: u64 = 16;

fn synthetic(options: &OpenOptions<'_>) -> Result<Sets> {
    let vocab_size = options.vocab_size.filter(|&size| size > 0).ok_or_else(|| {
        Error::config("model.vocab_size", "synthetic ids (data.kind = \"synthetic\") need it: set 1 or more")
    })?;
    let rows = Rows::Synthetic { vocab_size: vocab_size as u64, len: options.context_len };
    Ok(Sets {
        train: rows,
        validation: None,
        labels: vec![],
        n_labels: 0,
        tokenizer: None,
        vocab_size,
        warnings: vec![],
        template: None,
    })
}
