//! A dataset opened: its rows by the kind of its files, their order, their masks.

use vulpes_random::Key;

use super::masking::Masking;
use super::order::Order;
use super::rows::Rows;
use super::sets::{OpenOptions, Sets};
use super::{Dataset, ids, text};
use crate::config::{DataConfig, DataKind, ObjectiveConfig, ObjectiveKind, RowKind};
use crate::corpus::Labels;
use crate::error::{Error, Result};

impl Dataset {
    /// Opens the corpus that the config describes.
    ///
    /// # Errors
    /// Returns an error if the config has faults, a file can't be read or holds the wrong thing, or there is too little text.
    pub fn open(data: &DataConfig, objective: &ObjectiveConfig, options: &OpenOptions<'_>) -> Result<Self> {
        if let Some(issue) = data.issues(objective).into_iter().chain(objective.issues()).next() {
            return Err(Error::Config { key: issue.path, message: issue.message });
        }
        if options.context_len == 0 {
            return Err(Error::config("model.context_len", "0 leaves no room for a token; give 1 or more"));
        }
        let sets = match data.kind {
            DataKind::Synthetic => synthetic(options)?,
            DataKind::Ids => ids::open(data, objective, options)?,
            DataKind::Text | DataKind::Jsonl | DataKind::Csv | DataKind::Parquet => {
                text::open(data, objective, options)?
            }
        };
        let masks = objective.kind() == ObjectiveKind::MaskedToken
            && !matches!(&sets.train, Rows::Ids { rows, .. } if rows.iter().all(|row| row.labels != Labels::None));
        let masking = masks.then(|| Masking::new(objective, sets.tokenizer.as_ref())).transpose()?;
        let n_validation = sets.validation.as_ref().map_or(0, Rows::len);
        let tokenizer = sets.tokenizer;
        Ok(Self {
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
            per_row: objective.kind() == ObjectiveKind::Classify,
            window: (data.row_kind(objective) == RowKind::Windows).then_some(options.context_len),
            pad: tokenizer.as_ref().and_then(|t| t.pad_id().or(t.eos_id())).unwrap_or(0),
            train: sets.train,
            validation: sets.validation,
            tokenizer,
        })
    }
}

fn synthetic(options: &OpenOptions<'_>) -> Result<Sets> {
    let vocab_size = options.vocab_size.filter(|&size| size > 0).ok_or_else(|| {
        Error::config("model.vocab_size", "made-up ids (data.kind = \"synthetic\") need it: give 1 or more")
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
    })
}
