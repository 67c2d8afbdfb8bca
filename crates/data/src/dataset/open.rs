//! A dataset opened: files found, tokenizer trained or read, text tokenized, rows counted, faults named.

use vulpes_random::Key;

use super::masking::Masking;
use super::order::Order;
use super::rows::Rows;
use super::{Dataset, text};
use crate::corpus::{IdRow, Labels, Sources, read_ids};
use crate::progress::Progress;
use crate::{
    DataConfig, DataKind, Error, ObjectiveConfig, ObjectiveKind, Result, RowKind, Tokenizer, TokenizerKind,
};

/// What a dataset needs to know beside its own config sections.
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// The length of a window, and the most tokens of a row: `model.context_len`.
    pub context_len: usize,
    /// The seed of shuffling and masking: `train.seed`.
    pub seed: u64,
    /// The size of the vocabulary, where it is given: made-up ids need it, rows of ids are checked against it.
    pub vocab_size: Option<usize>,
    /// The tokenizer of the model that training starts from; used in place of a new one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Hears how far the preparation has come.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { context_len, seed, vocab_size, .. } = self;
        write!(f, "OpenOptions {{ context_len: {context_len}, seed: {seed}, vocab_size: {vocab_size:?} }}")
    }
}

/// The two sets as they come from the files.
pub(super) struct Sets {
    pub(super) train: Rows,
    pub(super) validation: Option<Rows>,
    pub(super) labels: Vec<String>,
    pub(super) n_labels: usize,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) vocab_size: usize,
    pub(super) warnings: Vec<String>,
}

impl Dataset {
    /// Opens the corpus that the config describes.
    ///
    /// # Errors
    /// Where the config has faults, a file can't be read or holds the wrong thing, or there is too little text.
    pub fn open(data: &DataConfig, objective: &ObjectiveConfig, options: &OpenOptions<'_>) -> Result<Self> {
        if let Some(issue) = data.issues(objective).into_iter().chain(objective.issues()).next() {
            return Err(Error::Config { key: issue.path, message: issue.message });
        }
        if options.context_len == 0 {
            return Err(Error::config("model.context_len", "0 leaves no room for a token; give 1 or more"));
        }
        let sets = match data.kind {
            DataKind::Synthetic => synthetic(options)?,
            DataKind::Ids => ids(data, objective, options)?,
            DataKind::Text | DataKind::Jsonl | DataKind::Csv | DataKind::Parquet => {
                text::open(data, objective, options)?
            }
        };
        let masks = objective.kind == ObjectiveKind::MaskedToken
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
            order: Order::new(data.shuffle.then(|| Key::new(options.seed, "shuffle")), data.bucket),
            masking,
            mask_key: Key::new(options.seed, "masking").with("train"),
            per_row: objective.kind == ObjectiveKind::Classify,
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

fn ids(data: &DataConfig, objective: &ObjectiveConfig, options: &OpenOptions<'_>) -> Result<Sets> {
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => Some(tokenizer.clone()),
        (None, TokenizerKind::File) => Some(text::file_tokenizer(data)?),
        (None, _) => None,
    };
    let known = options.vocab_size.or_else(|| tokenizer.as_ref().map(Tokenizer::vocab_size));
    let rows = |key: &str, paths| -> Result<Vec<IdRow>> {
        let sources = Sources::find(key, paths)?;
        let mut rows = Vec::new();
        for source in &sources.files {
            for (number, row) in read_ids(source, options.context_len, known)?.into_iter().enumerate() {
                fits(&row, objective.kind).map_err(|message| Error::Row {
                    path: source.path.clone(),
                    line: number as u64 + 1,
                    message: message.into(),
                })?;
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return Err(Error::Empty { what: sources.what });
        }
        Ok(rows)
    };
    let train = rows("data.train", &data.train)?;
    let validation =
        (!data.validation.is_empty()).then(|| rows("data.validation", &data.validation)).transpose()?;
    let greatest = train.iter().chain(validation.iter().flatten()).flat_map(|row| &row.ids).max();
    let label = |row: &IdRow| match row.labels {
        Labels::Row(label) => label as usize + 1,
        _ => 0,
    };
    let n_labels = train.iter().map(label).max().unwrap_or(0);
    if let Some(label) = validation.iter().flatten().map(label).find(|&label| label > n_labels) {
        let message = format!("label {} does not occur in data.train", label - 1);
        return Err(Error::config("data.validation", message));
    }
    Ok(Sets {
        vocab_size: known.unwrap_or(greatest.map_or(0, |&id| id as usize + 1)),
        train: Rows::Ids { rows: train, objective: objective.kind },
        validation: validation.map(|rows| Rows::Ids { rows, objective: objective.kind }),
        labels: vec![],
        n_labels,
        tokenizer,
        warnings: vec![],
    })
}

/// Whether a row's labels are what the objective asks.
fn fits(row: &IdRow, objective: ObjectiveKind) -> std::result::Result<(), &'static str> {
    match (objective, &row.labels) {
        (ObjectiveKind::Classify, Labels::Row(label)) if *label >= 0 => Ok(()),
        (ObjectiveKind::Classify, _) => Err("labels is wanted: one whole number from 0, for classification"),
        (_, Labels::Row(_)) => Err("labels is one number; wanted one a place, for this objective"),
        (ObjectiveKind::NextToken, _) if row.ids.len() < 2 => {
            Err("input_ids has one id; a next one is wanted")
        }
        _ => Ok(()),
    }
}
