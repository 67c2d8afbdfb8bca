//! Opens a corpus of text: tokenizer, tokens (cached or new), rows.

use rayon::prelude::*;

use super::labels::numbered;
use super::rows::{Documents, Rows, Windows};
use super::sets::{OpenOptions, Sets};
use super::unsaid;
use crate::cache::{Cache, Key};
use crate::config::{
    DataConfig, DataKind, DocumentConfig, ObjectiveConfig, ObjectiveKind, RowKind, TokenizerKind,
};
use crate::corpus::{Cut, Reading, Sources, read};
use crate::error::{Error, Result};
use crate::progress::{Progress, Stage};
use crate::store::{Build, Built, Encoding, Split, Store, Target};
use crate::tokenizer::{Counts, Tokenizer, Use};

/// Smaller corpora (in bytes) are tokenized in memory at each start, unless the config names a cache.
const CACHED_FROM: u64 = 1 << 20;

/// A corpus of text being opened.
struct Corpus<'a> {
    data: &'a DataConfig,
    progress: &'a dyn Progress,
    cache: Option<Cache>,
    labels: bool,
    warnings: Vec<String>,
}

/// The tokenized sets of a corpus, before they are cut into rows.
struct Stores {
    train: Store,
    validation: Option<Store>,
    /// The labels in the order of first occurrence.
    labels: Vec<String>,
    n_documents: u64,
    /// Where the validation set comes from, for error messages.
    validation_source: String,
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
    let mut corpus = Corpus::new(data, objective, options.progress, &sources)?;
    corpus.warnings.extend(validation_sources.as_ref().and_then(|theirs| overlap(&sources, theirs)));
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => tokenizer.clone().with_config(&data.tokenizer)?,
        (None, TokenizerKind::File) => Tokenizer::of(&data.tokenizer)?,
        (None, _) => corpus.train_tokenizer(&sources)?,
    };
    corpus.warnings.extend(tokenizer.warnings().iter().cloned());
    for sources in [Some(&sources), validation_sources.as_ref()].into_iter().flatten() {
        corpus.warnings.extend(unsaid::warning(data, sources, &tokenizer)?);
    }
    let encoding = encoding(data, objective, options.context_len, tokenizer);
    let stores = corpus.stores(&sources, validation_sources.as_ref(), &encoding)?;

    let (labels, label_order) = numbered(&stores.labels, options.labels);
    if let ([only], ObjectiveKind::Classify) = (labels.as_slice(), objective.kind()) {
        let message = format!("has one label only, {only:?}: classification needs two or more");
        return Err(Error::config("data.train", message));
    }
    let told_apart = encoding.frames.tells_texts_apart() && !encoding.separate_pairs;
    if data.pair_column.is_some() && options.n_token_types == Some(1) && told_apart {
        let message = "the second text of a pair has token type 1, and the model has type 0 only \
                       (model.n_token_type = 1): remove data.pair_column, or use a model with 2 types";
        return Err(Error::config("data.pair_column", message));
    }
    let (row_kind, context_len, kind) = (data.row_kind(objective), options.context_len, objective.kind());
    let rows = |store: Store, tail: bool| match row_kind {
        RowKind::Windows => {
            Rows::Windows(Windows::new(store, context_len, kind, data.separate_documents, tail))
        }
        RowKind::Documents => Rows::Documents(Documents::new(store, context_len, kind, label_order.clone())),
    };
    let n_tokens = stores.train.n_tokens();
    let train = rows(stores.train, false);
    if train.len() == 0 {
        let next = usize::from(kind == ObjectiveKind::NextToken);
        let needed = if row_kind == RowKind::Windows { context_len + next } else { 1 + next };
        return Err(Error::TooShort {
            what: sources.what,
            n_tokens,
            needed: needed as u64,
            key: options.len_key,
        });
    }
    let validation = stores.validation.map(|store| rows(store, true));
    if let Some(set) = validation.as_ref().filter(|set| set.len() == 0) {
        return Err(Error::TooShort {
            what: stores.validation_source,
            n_tokens: set.n_tokens(),
            needed: 2,
            key: options.len_key,
        });
    }
    let tokenizer = encoding.tokenizer;
    let in_stream = stores.n_documents > 1 && row_kind == RowKind::Windows;
    if tokenizer.eos_id().is_none() && (in_stream || kind == ObjectiveKind::NextToken) {
        let so =
            if in_stream { "documents run into each other" } else { "the model doesn't learn to end a text" };
        let advice = "set data.tokenizer.eos";
        corpus.warnings.push(format!("the tokenizer has no end token, so {so}; {advice}"));
    }
    Ok(Sets {
        train,
        validation,
        n_labels: labels.len(),
        labels,
        vocab_size: tokenizer.vocab_size(),
        tokenizer: Some(tokenizer),
        warnings: corpus.warnings,
        template: None,
    })
}

/// How documents become tokens: with the frame of prompts, and what training needs in addition.
fn encoding(
    data: &DataConfig,
    objective: &ObjectiveConfig,
    context_len: usize,
    tokenizer: Tokenizer,
) -> Encoding {
    let in_stream = data.row_kind(objective) == RowKind::Windows;
    let used = match (objective.kind(), in_stream) {
        (ObjectiveKind::NextToken, true) if !data.separate_documents => Use::ContinueInStream,
        (ObjectiveKind::NextToken, _) => Use::Continue,
        (ObjectiveKind::MaskedToken, true) => Use::ReadInStream,
        (ObjectiveKind::MaskedToken, false) | (ObjectiveKind::Classify | ObjectiveKind::Contrastive, _) => {
            Use::Read
        }
    };
    let classify = objective.kind() == ObjectiveKind::Classify;
    let contrastive = objective.kind() == ObjectiveKind::Contrastive;
    let read = !in_stream && objective.kind() != ObjectiveKind::NextToken;
    Encoding {
        frames: tokenizer.frames(used),
        max_len: (classify || contrastive).then_some(context_len),
        separate_pairs: contrastive,
        pair_starts: data.pair_column.is_some() || classify || (read && tokenizer.has_frame()),
        tokenizer,
    }
}

/// A warning about files used for both training and validation.
pub(super) fn overlap(train: &Sources, validation: &Sources) -> Option<String> {
    let path = train.shared_with(validation).next()?;
    Some(format!(
        "{} is in data.train and in data.validation: the validation loss will be too low",
        path.display()
    ))
}

impl<'a> Corpus<'a> {
    fn new(
        data: &'a DataConfig,
        objective: &ObjectiveConfig,
        progress: &'a dyn Progress,
        sources: &Sources,
    ) -> Result<Self> {
        let cached = data.cache.is_some() || sources.n_bytes() >= CACHED_FROM;
        Ok(Self {
            data,
            progress,
            cache: cached.then(|| Cache::of(data)).transpose()?,
            labels: objective.kind() == ObjectiveKind::Classify,
            warnings: Vec::new(),
        })
    }

    /// Both sets: the validation set from its own files, or a share of the training files.
    fn stores(
        &mut self,
        sources: &Sources,
        validation_sources: Option<&Sources>,
        encoding: &Encoding,
    ) -> Result<Stores> {
        let data = self.data;
        let single =
            data.kind == DataKind::Text && data.document == DocumentConfig::File && sources.files.len() == 1;
        let position =
            |len: u64, fraction: f64| Split::Position((len as f64 * (1.0 - fraction)).floor() as u64);
        let split = match data.validation_fraction {
            None => Split::None,
            Some(fraction) if single => position(sources.n_bytes(), fraction),
            Some(fraction) => Split::Content(fraction),
        };
        let mut built = self.tokens(sources, encoding, split, None)?;
        // A single document can't be chosen by its content: it is split in two.
        if let (Split::Content(fraction), 1) = (split, built.n_documents) {
            built = self.tokens(sources, encoding, position(built.first_len, fraction), None)?;
        }
        if built.n_documents == 0 {
            return Err(Error::Empty { what: sources.what.clone() });
        }
        let (validation, validation_source) = match validation_sources {
            None => (data.validation_fraction.map(|_| built.validation), "data.validation_fraction".into()),
            Some(sources) => {
                let other = self.tokens(sources, encoding, Split::None, Some(&built.labels))?;
                if other.n_documents == 0 {
                    return Err(Error::Empty { what: sources.what.clone() });
                }
                (Some(other.train), sources.what.clone())
            }
        };
        let empty = |set: &Store| set.n_documents() == 0;
        if data.validation_fraction.is_some()
            && (empty(&built.train) || validation.as_ref().is_some_and(empty))
        {
            let message = format!(
                "of {} documents none fell into one of the sets; set another share, or data.validation",
                built.n_documents
            );
            return Err(Error::config("data.validation_fraction", message));
        }
        let Built { train, labels, n_documents, .. } = built;
        Ok(Stores { train, validation, labels, n_documents, validation_source })
    }

    /// The tokens of files, from the cache or newly made.
    fn tokens(
        &mut self,
        sources: &Sources,
        encoding: &Encoding,
        split: Split,
        labels: Option<&[String]>,
    ) -> Result<Built> {
        let cut = encoding.tokenizer.cut();
        let look = |text: &str| encoding.tokenizer.last_joint(text).map(|joint| (joint.at, joint.skip));
        let build = |target: &Target| {
            Build {
                sources,
                reading: Reading {
                    config: self.data,
                    labels: self.labels,
                    cut,
                    look: (cut == Cut::Never).then_some(&look),
                },
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
            .with("frames", &(&encoding.frames, encoding.max_len, encoding.pair_starts))?
            .with("apart", &encoding.separate_pairs)?
            .with("split", &split)?
            .with_files(&digests);
        let (built, fault) = cache.corpus(key, &|| self.waits(sources), build)?;
        self.warnings.extend(fault);
        Ok(built)
    }

    /// A key with all settings that determine the documents.
    fn key(&self, purpose: &str) -> Result<Key> {
        let data = self.data;
        Key::new(purpose).with("data", &(data.kind, &data.document, data.text_column(), &data.pair_column))
    }

    /// Reports that another process prepares the same files.
    fn waits(&self, sources: &Sources) {
        self.progress.report(Stage::Wait, 0, sources.n_bytes());
    }

    fn train_tokenizer(&mut self, sources: &Sources) -> Result<Tokenizer> {
        let config = &self.data.tokenizer;
        let (share, told) = config.share_of(sources.n_bytes());
        self.warnings.extend(told);
        let train = || {
            let counts = self.count(sources, share)?;
            // Otherwise the error would be that a corpus without text is too small for its vocabulary.
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

    /// Counts the words of a share of the corpus, on all threads; the share depends on the corpus alone.
    fn count(&self, sources: &Sources, share: f64) -> Result<Counts> {
        const ROUND: usize = 8 << 20;
        let total = sources.n_bytes();
        let (mut done, mut kept) = (0u64, 0u64);
        let mut counts = Counts::new(&self.data.tokenizer)?;
        let mut round: Vec<String> = Vec::new();
        let mut size = 0;
        let reading = Reading { config: self.data, labels: false, cut: Cut::Blanks, look: None };
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
