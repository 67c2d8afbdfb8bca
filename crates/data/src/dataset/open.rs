//! A dataset opened: files found, tokenizer trained or read, text tokenized, rows counted, faults named.

use vulpes_random::Key;

use super::Dataset;
use super::masking::Masking;
use super::rows::{Documents, Rows, Windows};
use crate::corpus::{Cut, IdRow, Labels, Reading, Sources, read, read_ids};
use crate::progress::{Progress, Stage};
use crate::store::{Build, Built, Encoding, Frame, Split, Store};
use crate::tokenizer::Counts;
use crate::{
    DataConfig, DataKind, DocumentConfig, Error, ObjectiveConfig, ObjectiveKind, Result, RowKind, Tokenizer,
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
struct Sets {
    train: Rows,
    validation: Option<Rows>,
    labels: Vec<String>,
    n_labels: usize,
    tokenizer: Option<Tokenizer>,
    vocab_size: usize,
    warnings: Vec<String>,
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
            DataKind::Text | DataKind::Jsonl | DataKind::Csv => text(data, objective, options)?,
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
            shuffle: data.shuffle.then(|| Key::new(options.seed, "shuffle")),
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
        (None, TokenizerKind::File) => Some(file_tokenizer(data)?),
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

fn text(data: &DataConfig, objective: &ObjectiveConfig, options: &OpenOptions<'_>) -> Result<Sets> {
    let sources = Sources::find("data.train", &data.train)?;
    let validation = (!data.validation.is_empty())
        .then(|| Sources::find("data.validation", &data.validation))
        .transpose()?;
    let labels = objective.kind == ObjectiveKind::Classify;
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => tokenizer.clone(),
        (None, TokenizerKind::File) => file_tokenizer(data)?,
        (None, _) => train_tokenizer(data, &sources, options.progress)?,
    };
    let rows = data.row_kind(objective);
    let framed = rows == RowKind::Documents
        && (labels
            || data.pair_column.is_some()
            || (tokenizer.has_frame() && objective.kind == ObjectiveKind::MaskedToken));
    let encoding = Encoding {
        frame: framed.then(|| Frame { max_len: labels.then_some(options.context_len) }),
        tokenizer: tokenizer.clone(),
    };
    let cut = if framed { Cut::Never } else { tokenizer.cut() };
    let build = |sources, split, labels_known: Option<&[String]>| {
        Build {
            sources,
            reading: Reading { config: data, labels, cut },
            encoding: &encoding,
            split,
            labels: labels_known.unwrap_or_default().to_vec(),
            fixed_labels: labels_known.is_some(),
            progress: options.progress,
        }
        .run()
    };
    let single =
        data.kind == DataKind::Text && data.document == DocumentConfig::File && sources.files.len() == 1;
    let position = |len: u64, fraction: f64| Split::Position((len as f64 * (1.0 - fraction)).floor() as u64);
    let split = match data.validation_fraction {
        None => Split::None,
        Some(fraction) if single => position(sources.n_bytes(), fraction),
        Some(fraction) => Split::Content(fraction),
    };
    let mut built: Built = build(&sources, split, None)?;
    if let (Split::Content(fraction), 1) = (split, built.n_documents) {
        built = build(&sources, position(built.first_len, fraction), None)?;
    }
    if built.n_documents == 0 {
        return Err(Error::Empty { what: sources.what });
    }
    let apart = match &validation {
        Some(sources) => {
            let other = build(sources, Split::None, Some(&built.labels))?;
            if other.n_documents == 0 {
                return Err(Error::Empty { what: sources.what.clone() });
            }
            Some(other.train)
        }
        None => data.validation_fraction.map(|_| built.validation),
    };
    if data.validation_fraction.is_some()
        && (built.train.n_documents() == 0 || apart.as_ref().is_some_and(|set| set.n_documents() == 0))
    {
        let message = format!(
            "of {} documents none fell to one of the sets; give another share, or data.validation",
            built.n_documents
        );
        return Err(Error::config("data.validation_fraction", message));
    }
    let (label_names, label_order) = ordered(&built.labels);
    let set = |store: Store, tail: bool| match rows {
        RowKind::Windows => Rows::Windows(Windows::new(
            store,
            options.context_len,
            objective.kind,
            data.separate_documents,
            tail,
        )),
        RowKind::Documents => {
            Rows::Documents(Documents::new(store, options.context_len, objective.kind, label_order.clone()))
        }
    };
    let many = built.n_documents > 1;
    let what = sources.what;
    let (n_tokens, train) = (built.train.n_tokens(), set(built.train, false));
    let needed = options.context_len as u64 + u64::from(objective.kind == ObjectiveKind::NextToken);
    if train.len() == 0 {
        let needed = if rows == RowKind::Windows { needed } else { 2 };
        return Err(Error::TooShort { what, n_tokens, needed });
    }
    let validation_set = apart.map(|store| set(store, true));
    if let Some(set) = validation_set.as_ref().filter(|set| set.len() == 0) {
        let what = validation.map_or("data.validation_fraction".into(), |sources| sources.what);
        return Err(Error::TooShort { what, n_tokens: set.n_tokens(), needed: 2 });
    }
    let mut warnings = Vec::new();
    if many && rows == RowKind::Windows && tokenizer.eos_id().is_none() {
        warnings.push(
            "the tokenizer names no end token, so documents run into each other; name one in data.tokenizer.eos"
                .to_owned(),
        );
    }
    Ok(Sets {
        train,
        validation: validation_set,
        n_labels: label_names.len(),
        labels: label_names,
        vocab_size: tokenizer.vocab_size(),
        tokenizer: Some(tokenizer),
        warnings,
    })
}

/// The labels in their own order, whole numbers as numbers, and the place there of each label as it came.
fn ordered(labels: &[String]) -> (Vec<String>, Vec<u32>) {
    let mut sorted: Vec<String> = labels.to_vec();
    let numbers: Option<Vec<i64>> = labels.iter().map(|label| label.parse().ok()).collect();
    match numbers {
        Some(_) => sorted.sort_by_key(|label| label.parse::<i64>().unwrap_or(0)),
        None => sorted.sort(),
    }
    let order = labels
        .iter()
        .map(|label| sorted.iter().position(|other| other == label).unwrap_or(0) as u32)
        .collect();
    (sorted, order)
}

fn file_tokenizer(data: &DataConfig) -> Result<Tokenizer> {
    let path = data.tokenizer.path.as_deref().unwrap_or_default();
    Tokenizer::from_file(path)?.with_config(&data.tokenizer)
}

fn train_tokenizer(data: &DataConfig, sources: &Sources, progress: &dyn Progress) -> Result<Tokenizer> {
    let mut counts = Counts::new(&data.tokenizer)?;
    let total = sources.n_bytes();
    let mut done = 0;
    progress.report(Stage::TrainTokenizer, 0, total);
    let reading = Reading { config: data, labels: false, cut: Cut::Words };
    for source in &sources.files {
        read(source, &reading, &mut |document| {
            counts.add(document.text);
            document.pair.into_iter().for_each(|pair| counts.add(pair));
            done += document.text.len() as u64;
            progress.report(Stage::TrainTokenizer, done.min(total), total);
            Ok(())
        })?;
    }
    progress.report(Stage::TrainTokenizer, total, total);
    counts.finish()
}
