//! A corpus of text opened: tokenizer, tokens (from the cache where they lie there), rows.

use rayon::prelude::*;

use super::open::{OpenOptions, Sets};
use super::rows::{Documents, Rows, Windows};
use crate::cache::{Cache, Key};
use crate::corpus::{Cut, Reading, Sources, read};
use crate::progress::{Progress, Stage};
use crate::store::{Build, Built, Encoding, Frame, Split, Store, Target};
use crate::tokenizer::Counts;
use crate::{
    DataConfig, DataKind, DocumentConfig, Error, ObjectiveConfig, ObjectiveKind, Result, RowKind, Tokenizer,
    TokenizerConfig, TokenizerKind,
};

/// A corpus of fewer bytes is tokenized anew at each start, in memory, unless the config names a cache.
const CACHED_FROM: u64 = 1 << 20;

/// A corpus of text on its way to rows.
struct Corpus<'a> {
    data: &'a DataConfig,
    progress: &'a dyn Progress,
    cache: Option<Cache>,
    labels: bool,
    warnings: Vec<String>,
}

pub(super) fn open(
    data: &DataConfig,
    objective: &ObjectiveConfig,
    options: &OpenOptions<'_>,
) -> Result<Sets> {
    let sources = Sources::find("data.train", &data.train)?;
    let validation_sources = (!data.validation.is_empty())
        .then(|| Sources::find("data.validation", &data.validation))
        .transpose()?;
    let shared = validation_sources.as_ref().and_then(|validation| sources.shared_with(validation).next());
    let warning = shared.map(|path| {
        format!(
            "{} is in data.train and in data.validation: the validation loss will flatter",
            path.display()
        )
    });
    let cached = data.cache.is_some() || sources.n_bytes() >= CACHED_FROM;
    let mut corpus = Corpus {
        data,
        progress: options.progress,
        cache: cached.then(|| Cache::of(data)).transpose()?,
        labels: objective.kind() == ObjectiveKind::Classify,
        warnings: warning.into_iter().collect(),
    };
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => tokenizer.clone(),
        (None, TokenizerKind::File) => file_tokenizer(data)?,
        (None, _) => corpus.train_tokenizer(&sources)?,
    };
    let rows = data.row_kind(objective);
    let masked = objective.kind() == ObjectiveKind::MaskedToken;
    let framed = corpus.labels || data.pair_column.is_some() || (masked && tokenizer.has_frame());
    let frame = (rows == RowKind::Documents && framed)
        .then_some(Frame { max_len: corpus.labels.then_some(options.context_len) });
    let encoding = Encoding { tokenizer, frame };

    let single =
        data.kind == DataKind::Text && data.document == DocumentConfig::File && sources.files.len() == 1;
    let position = |len: u64, fraction: f64| Split::Position((len as f64 * (1.0 - fraction)).floor() as u64);
    let split = match data.validation_fraction {
        None => Split::None,
        Some(fraction) if single => position(sources.n_bytes(), fraction),
        Some(fraction) => Split::Content(fraction),
    };
    let mut built = corpus.tokens(&sources, &encoding, split, None)?;
    if let (Split::Content(fraction), 1) = (split, built.n_documents) {
        built = corpus.tokens(&sources, &encoding, position(built.first_len, fraction), None)?;
    }
    if built.n_documents == 0 {
        return Err(Error::Empty { what: sources.what });
    }
    let (validation, validation_what) = match validation_sources {
        None => (data.validation_fraction.map(|_| built.validation), "data.validation_fraction".into()),
        Some(sources) => {
            let other = corpus.tokens(&sources, &encoding, Split::None, Some(&built.labels))?;
            if other.n_documents == 0 {
                return Err(Error::Empty { what: sources.what });
            }
            (Some(other.train), sources.what)
        }
    };
    let empty = |set: &Store| set.n_documents() == 0;
    if data.validation_fraction.is_some() && (empty(&built.train) || validation.as_ref().is_some_and(empty)) {
        let message = format!(
            "of {} documents none fell to one of the sets; give another share, or data.validation",
            built.n_documents
        );
        return Err(Error::config("data.validation_fraction", message));
    }

    let (labels, label_order) = numbered(&built.labels, options.labels);
    let set = |store: Store, tail: bool| match rows {
        RowKind::Windows => Rows::Windows(Windows::new(
            store,
            options.context_len,
            objective.kind(),
            data.separate_documents,
            tail,
        )),
        RowKind::Documents => {
            Rows::Documents(Documents::new(store, options.context_len, objective.kind(), label_order.clone()))
        }
    };
    let n_tokens = built.train.n_tokens();
    let train = set(built.train, false);
    if train.len() == 0 {
        let next = usize::from(objective.kind() == ObjectiveKind::NextToken);
        let needed = if rows == RowKind::Windows { options.context_len + next } else { 1 + next };
        return Err(Error::TooShort { what: sources.what, n_tokens, needed: needed as u64 });
    }
    let validation = validation.map(|store| set(store, true));
    if let Some(set) = validation.as_ref().filter(|set| set.len() == 0) {
        return Err(Error::TooShort { what: validation_what, n_tokens: set.n_tokens(), needed: 2 });
    }
    let tokenizer = encoding.tokenizer;
    if built.n_documents > 1 && rows == RowKind::Windows && tokenizer.eos_id().is_none() {
        let advice = "documents run into each other; name one in data.tokenizer.eos";
        corpus.warnings.push(format!("the tokenizer names no end token, so {advice}"));
    }
    Ok(Sets {
        train,
        validation,
        n_labels: labels.len(),
        labels,
        vocab_size: tokenizer.vocab_size(),
        tokenizer: Some(tokenizer),
        warnings: corpus.warnings,
    })
}

impl Corpus<'_> {
    /// The tokens of files, from the cache or made now.
    fn tokens(
        &mut self,
        sources: &Sources,
        encoding: &Encoding,
        split: Split,
        labels: Option<&[String]>,
    ) -> Result<Built> {
        let cut = if encoding.frame.is_some() { Cut::Never } else { encoding.tokenizer.cut() };
        let build = |target: &Target| {
            Build {
                sources,
                reading: Reading { config: self.data, labels: self.labels, cut },
                encoding,
                split,
                labels: labels.unwrap_or_default().to_vec(),
                fixed_labels: labels.is_some(),
                progress: self.progress,
            }
            .run(target)
        };
        let Some(cache) = &self.cache else {
            let built = build(&Target::Memory)?.in_memory();
            return built.ok_or_else(|| Error::config("data", "a corpus in memory was written to files"));
        };
        let digests = cache.digests(sources, self.progress)?;
        let tokenizer = &encoding.tokenizer;
        let key = self
            .key("corpus")?
            .with("labels", &(self.labels, labels, self.data.label_column()))?
            .with("tokenizer", &(tokenizer.to_json(), tokenizer.eos_id()))?
            .with("frame", &encoding.frame.map(|frame| frame.max_len))?
            .with("split", &split)?
            .with_files(&digests);
        let (built, fault) = cache.corpus(key, &|| self.waits(sources), build)?;
        self.warnings.extend(fault);
        Ok(built)
    }

    /// A key with all settings that decide what the documents are.
    fn key(&self, purpose: &str) -> Result<Key> {
        let data = self.data;
        Key::new(purpose).with("data", &(data.kind, &data.document, data.text_column(), &data.pair_column))
    }

    /// Says that another process is at work on the same files.
    fn waits(&self, sources: &Sources) {
        self.progress.report(Stage::Wait, 0, sources.n_bytes());
    }

    fn train_tokenizer(&mut self, sources: &Sources) -> Result<Tokenizer> {
        let config = &self.data.tokenizer;
        let total = sources.n_bytes();
        let sample = config.sample_mb.unwrap_or(TokenizerConfig::SAMPLE_MB) << 20;
        if total > sample {
            self.warnings.push(format!(
                "the tokenizer is trained on {} of {} MB, taken evenly (data.tokenizer.sample_mb)",
                sample >> 20,
                total >> 20
            ));
        }
        let train = || {
            let counts = self.count(sources, sample as f64 / total.max(1) as f64)?;
            // A corpus without text would be told that it is too small for its vocabulary.
            if counts.is_empty() {
                return Err(Error::Empty { what: sources.what.clone() });
            }
            counts.finish()
        };
        match &self.cache {
            None => train(),
            Some(cache) => {
                let digests = cache.digests(sources, self.progress)?;
                let key = self.key("tokenizer")?.with("tokenizer", config)?.with_files(&digests);
                cache.tokenizer(key, &|| self.waits(sources), train)?.with_config(config)
            }
        }
    }

    /// Counts the words of a share of the corpus, on all threads; which share depends on the corpus alone.
    fn count(&self, sources: &Sources, share: f64) -> Result<Counts> {
        const ROUND: usize = 8 << 20;
        let total = sources.n_bytes();
        let (mut done, mut kept) = (0u64, 0u64);
        let mut counts = Counts::new(&self.data.tokenizer)?;
        let mut round: Vec<String> = Vec::new();
        let mut size = 0;
        let reading = Reading { config: self.data, labels: false, cut: Cut::Blanks };
        let count_round = |counts: &mut Counts, round: &mut Vec<String>| {
            let add = |mut counts: Counts, text: String| {
                counts.add(&text);
                counts
            };
            let merge = |mut one: Counts, other: Counts| {
                one.merge(other);
                one
            };
            let part = round.par_drain(..).fold(|| counts.empty(), add).reduce(|| counts.empty(), merge);
            counts.merge(part);
        };
        self.progress.report(Stage::TrainTokenizer, 0, total);
        for source in &sources.files {
            read(source, &reading, &mut |document| {
                for text in [Some(document.text), document.pair].into_iter().flatten() {
                    if kept as f64 <= done as f64 * share {
                        kept += text.len() as u64;
                        size += text.len();
                        round.push(text.into());
                    }
                    done += text.len() as u64;
                }
                if size >= ROUND {
                    size = 0;
                    count_round(&mut counts, &mut round);
                    self.progress.report(Stage::TrainTokenizer, done.min(total), total);
                }
                Ok(())
            })?;
        }
        count_round(&mut counts, &mut round);
        self.progress.report(Stage::TrainTokenizer, total, total);
        Ok(counts)
    }
}

/// The labels by number, and the number of each label as it came: those of the model that training starts from, if the
/// corpus has no others, by their names or by their numbers.
fn numbered(labels: &[String], of_model: &[String]) -> (Vec<String>, Vec<u32>) {
    let by_name = |label: &String| of_model.iter().position(|known| known == label);
    let by_number = |label: &String| label.parse().ok().filter(|&number| number < of_model.len());
    let all = |number: &dyn Fn(&String) -> Option<usize>| -> Option<Vec<u32>> {
        labels.iter().map(|label| Some(number(label)? as u32)).collect()
    };
    match all(&by_name).or_else(|| all(&by_number)) {
        Some(order) if !of_model.is_empty() => (of_model.to_vec(), order),
        _ => ordered(labels),
    }
}

/// The labels in their own order, whole numbers as numbers, and the place there of each label as it came.
fn ordered(labels: &[String]) -> (Vec<String>, Vec<u32>) {
    let mut sorted: Vec<String> = labels.to_vec();
    let numbers: Option<Vec<i64>> = labels.iter().map(|label| label.parse().ok()).collect();
    match numbers {
        Some(_) => sorted.sort_by_key(|label| label.parse::<i64>().unwrap_or(0)),
        None => sorted.sort(),
    }
    let place = |label: &String| sorted.iter().position(|other| other == label).unwrap_or(0) as u32;
    let order = labels.iter().map(place).collect();
    (sorted, order)
}

/// The tokenizer that the config names by its path.
pub(super) fn file_tokenizer(data: &DataConfig) -> Result<Tokenizer> {
    let path = data.tokenizer.path.as_deref().unwrap_or_default();
    Tokenizer::from_file(path)?.with_config(&data.tokenizer)
}
