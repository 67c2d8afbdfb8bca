//! A dataset opened: files found, tokenizer trained or read, text tokenized, rows counted, faults named.

use vulpes_random::Key;

use super::masking::Masking;
use super::order::Order;
use super::rows::{Rows, id_row};
use super::{Dataset, text};
use crate::corpus::{IdRow, Labels, Limits, Sources, read_ids};
use crate::progress::Progress;
use crate::{
    DataConfig, DataKind, Error, IGNORED, ObjectiveConfig, ObjectiveKind, Result, RowKind, Tokenizer,
    TokenizerKind,
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
    /// The number of token types that the model tells apart, where it is known: rows of ids are checked against it.
    pub n_token_types: Option<usize>,
    /// The tokenizer of the model that training starts from; used in place of a new one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The labels, by number, of the classifier that training starts from; kept where those of the corpus are among
    /// them.
    pub labels: &'a [String],
    /// Whether the rows come in a new random order each epoch, if `data.shuffle` has nothing against it.
    pub shuffle: bool,
    /// Hears how far the preparation has come.
    pub progress: &'a dyn Progress,
}

impl OpenOptions<'static> {
    /// A run from scratch that nobody watches: no vocabulary, tokenizer or labels from elsewhere, rows shuffled.
    pub fn new(context_len: usize, seed: u64) -> Self {
        Self {
            context_len,
            seed,
            vocab_size: None,
            n_token_types: None,
            tokenizer: None,
            labels: &[],
            shuffle: true,
            progress: &(),
        }
    }
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

fn ids(data: &DataConfig, objective: &ObjectiveConfig, options: &OpenOptions<'_>) -> Result<Sets> {
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => Some(tokenizer.clone()),
        (None, TokenizerKind::File) => Some(text::file_tokenizer(data)?),
        (None, _) => None,
    };
    let known = options.vocab_size.or_else(|| tokenizer.as_ref().map(Tokenizer::vocab_size));
    let limits =
        Limits { context_len: options.context_len, vocab_size: known, n_token_types: options.n_token_types };
    let asked = objective.kind();
    let rows = |key: &str, paths| -> Result<Vec<IdRow>> {
        let sources = Sources::find(key, paths)?;
        let mut rows = Vec::new();
        for source in &sources.files {
            for (number, row) in read_ids(source, &limits)?.into_iter().enumerate() {
                fits(&row, asked, known).map_err(|message| Error::Row {
                    path: source.path.clone(),
                    line: number as u64 + 1,
                    message,
                })?;
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return Err(Error::Empty { what: sources.what });
        }
        // Masking chooses its targets later.
        let may_mask =
            asked == ObjectiveKind::MaskedToken && rows.iter().any(|row| row.labels == Labels::None);
        if !may_mask
            && !rows.iter().any(|row| id_row(row, asked).targets.iter().any(|&target| target != IGNORED))
        {
            return Err(Error::config(key, "no row has a target: nothing can be learned or measured"));
        }
        Ok(rows)
    };
    let train = rows("data.train", &data.train)?;
    let validation =
        (!data.validation.is_empty()).then(|| rows("data.validation", &data.validation)).transpose()?;
    let greatest = train.iter().chain(validation.iter().flatten()).flat_map(|row| &row.ids).max();
    let label = |row: &IdRow| match row.labels {
        Labels::Row(label) => usize::try_from(label).map_or(0, |label| label + 1),
        _ => 0,
    };
    let n_found = train.iter().map(label).max().unwrap_or(0);
    let labels = if n_found <= options.labels.len() { options.labels.to_vec() } else { vec![] };
    let n_labels = n_found.max(labels.len());
    if let Some(label) = validation.iter().flatten().map(label).find(|&label| label > n_labels) {
        let message = format!("label {} does not occur in data.train", label - 1);
        return Err(Error::config("data.validation", message));
    }
    Ok(Sets {
        vocab_size: known.unwrap_or(greatest.map_or(0, |&id| id as usize + 1)),
        train: Rows::Ids { rows: train, objective: asked },
        validation: validation.map(|rows| Rows::Ids { rows, objective: asked }),
        labels,
        n_labels,
        tokenizer,
        warnings: vec![],
    })
}

/// That a row's labels are what the objective asks, and within the vocabulary where it is known.
fn fits(row: &IdRow, objective: ObjectiveKind, vocab_size: Option<usize>) -> std::result::Result<(), String> {
    match (objective, &row.labels) {
        (ObjectiveKind::Classify, Labels::Row(label)) if *label >= 0 || *label == IGNORED => Ok(()),
        (ObjectiveKind::Classify, _) => {
            Err("labels is wanted: one whole number from 0, for classification".into())
        }
        (_, Labels::Row(_)) => Err("labels is one number; wanted one a place, for this objective".into()),
        (_, Labels::Places(labels)) => {
            let size = vocab_size.map_or(i64::MAX, |size| size as i64);
            match labels.iter().find(|&&label| label != IGNORED && !(0..size).contains(&label)) {
                Some(label) => {
                    Err(format!("label {label} is no id of the vocabulary, nor {IGNORED} for none"))
                }
                None => Ok(()),
            }
        }
        (_, Labels::None) => Ok(()),
    }
}
