//! Tokenizes a corpus on all threads, into one store or, with a validation share, into two.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use super::Store;
use super::column::Width;
use super::round::{Job, Round};
use super::split::{Split, Splitter};
use super::writer::{Finished, Target, Writer};
use crate::corpus::{Reading, Sources, read};
use crate::error::{Error, Result};
use crate::progress::{Progress, Stage};
use crate::tokenizer::{Encoder, Frames, ThreadEncoder, Tokenizer};

/// How a document becomes tokens.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    pub(crate) tokenizer: Tokenizer,
    /// The special tokens around each document.
    pub(crate) frames: Frames,
    /// The maximum number of tokens of a document with its frame; the text is cut to fit.
    pub(crate) max_len: Option<usize>,
    /// Whether the start of the second text of each document is stored.
    pub(crate) pair_starts: bool,
    /// Whether each text of a pair has its own frame and is cut by itself.
    pub(crate) separate_pairs: bool,
}

/// The parameters of a build.
pub(crate) struct Build<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) reading: Reading<'a>,
    pub(crate) encoding: &'a Encoding,
    pub(crate) split: Split,
    /// The labels numbered so far; with `fixed_labels` no other may occur.
    pub(crate) labels: Vec<String>,
    pub(crate) fixed_labels: bool,
    pub(crate) progress: &'a dyn Progress,
}

/// A tokenized corpus, ready for use.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) train: Store,
    pub(crate) validation: Store,
    /// The labels in the order of first occurrence.
    pub(crate) labels: Vec<String>,
    /// The number of documents, and the bytes of the first.
    pub(crate) n_documents: u64,
    pub(crate) first_len: u64,
}

/// The result of a build: as [`Built`], in memory or in files that are not mapped yet.
pub(crate) struct Made {
    pub(crate) sets: [MadeSet; 2],
    pub(crate) labels: Vec<String>,
    pub(crate) n_documents: u64,
    pub(crate) first_len: u64,
}

/// The columns of a [`Store`].
pub(crate) struct MadeSet {
    pub(crate) tokens: Finished,
    pub(crate) ends: Finished,
    pub(crate) labels: Option<Finished>,
    pub(crate) pair_starts: Option<Finished>,
}

impl Made {
    /// The corpus, if it was built in memory.
    pub(crate) fn in_memory(self) -> Option<Built> {
        let column = |finished| match finished {
            Finished::Column(column) => Some(column),
            Finished::Files { .. } => None,
        };
        let [train, validation] = self.sets.map(|set| {
            Some(Store {
                tokens: column(set.tokens)?,
                ends: column(set.ends)?,
                labels: set.labels.and_then(column),
                pair_starts: set.pair_starts.and_then(column),
            })
        });
        let Self { labels, n_documents, first_len, .. } = self;
        Some(Built { train: train?, validation: validation?, labels, n_documents, first_len })
    }
}

/// The maximum number of bytes of text per round of the encoders.
const ROUND: usize = 4 << 20;

impl Build<'_> {
    /// Reads, encodes and collects the documents.
    pub(crate) fn run(self, target: &Target) -> Result<Made> {
        let encoder = Encoder::new(&self.encoding.tokenizer);
        let mut sinks = ["train", "validation"].map(|set| self.sink(set, target));
        let mut labels = Labels::of(self.labels.clone());
        let (mut n_documents, mut first_len) = (0, 0);
        let total = self.sources.n_bytes();
        let mut end = 0;
        let before = self.sources.files.iter().map(|file| {
            end += file.len;
            end - file.len
        });
        let before: Vec<u64> = before.collect();
        let mut done = 0;
        self.progress.report(Stage::Tokenize, 0, total);
        self.rounds(&mut |round| {
            let groups = round.groups();
            let encoded: Vec<Encoded> = groups
                .par_iter()
                .map_init(|| encoder.for_thread(), |encoder, group| self.encode(encoder, &round, group))
                .collect::<Result<_>>()?;
            for (group, encoded) in groups.into_iter().zip(encoded) {
                let mut start = 0;
                for (job, (end, second)) in group.iter().zip(encoded.ends) {
                    let sink = &mut sinks[usize::from(job.is_validation)];
                    sink.tokens.push(encoded.ids[start..end].iter().map(|&id| u64::from(id)))?;
                    start = end;
                    if n_documents == 0 {
                        first_len += job.text.len() as u64;
                    }
                    if job.last {
                        let label = job.label.as_ref().map(|label| round.text(label));
                        let label = label.map(|label| self.number(&mut labels, label, job)).transpose()?;
                        sink.end(label, second)?;
                        n_documents += 1;
                    }
                    done = before[job.source] + job.read;
                }
            }
            self.progress.report(Stage::Tokenize, done.min(total), total);
            Ok(())
        })?;
        self.progress.report(Stage::Tokenize, total, total);
        let [train, validation] = sinks;
        let sets = [train.finish()?, validation.finish()?];
        Ok(Made { sets, labels: labels.names, n_documents, first_len })
    }

    fn sink(&self, set: &'static str, target: &Target) -> Sink {
        let width = Width::of_ids(self.encoding.tokenizer.vocab_size());
        let name = |column: &str| format!("{set}-{column}");
        Sink {
            tokens: Writer::new(width, name("tokens"), target),
            ends: Writer::new(Width::U64, name("ends"), target),
            labels: self.reading.labels.then(|| Writer::new(Width::U32, name("labels"), target)),
            start: 0,
            pair_starts: self.encoding.pair_starts.then(|| Writer::new(Width::U32, name("seconds"), target)),
        }
    }

    /// Reads on its own thread and passes the documents on in rounds.
    fn rounds(&self, each: &mut dyn FnMut(Round) -> Result<()>) -> Result<()> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<Round>(1);
            let reader = scope.spawn(move || {
                // If the receiver is gone, its error is the one that is reported.
                let stopped = |_| Error::config("data", "the encoders stopped");
                let mut round = Round::default();
                for (number, source) in self.sources.files.iter().enumerate() {
                    let mut splitter = Splitter::new(self.split, &self.reading, number, source)?;
                    read(source, &self.reading, &mut |document| {
                        splitter.push(document, &mut round);
                        match round.len() >= ROUND {
                            true => sender.send(std::mem::take(&mut round)).map_err(stopped),
                            false => Ok(()),
                        }
                    })?;
                    source.check()?;
                }
                sender.send(round).map_err(stopped)
            });
            let encoded = receiver.into_iter().try_for_each(each);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            encoded.and(read)
        })
    }

    fn encode(&self, encoder: &mut ThreadEncoder<'_>, round: &Round, group: &[Job]) -> Result<Encoded> {
        let Encoding { tokenizer, frames, max_len, pair_starts: _, separate_pairs } = self.encoding;
        let mut ids = Vec::new();
        let mut ends = Vec::with_capacity(group.len());
        for job in group {
            let start = ids.len();
            let context = |error: Error| match error {
                Error::Tokenizer { message, .. } => Error::row(self.path(job), job.line, message),
                other => other,
            };
            let text = round.text(&job.text);
            // Documents that can't be cut come from tables, whose rows are read in one piece.
            let second = if max_len.is_some() || job.pair.is_some() {
                let (mut first, mut second) = (Vec::new(), Vec::new());
                encoder.encode(text, &mut first).map_err(context)?;
                let pair = job.pair.as_ref().map(|pair| encoder.encode(round.text(pair), &mut second));
                let pair = pair.transpose().map_err(context)?.map(|()| second.as_slice());
                let (mut own, mut types) = frames.lay(&first, pair.filter(|_| !separate_pairs), *max_len);
                if *separate_pairs {
                    let (other, _) = frames.lay(pair.unwrap_or_default(), None, *max_len);
                    if own.is_empty() || other.is_empty() {
                        let message = "one of the two texts is empty, or has no token in the vocabulary; \
                                       remove the row";
                        return Err(Error::row(self.path(job), job.line, message));
                    }
                    types = [vec![0; own.len()], vec![1; other.len()]].concat();
                    own.extend(other);
                }
                if own.is_empty() && tokenizer.eos_id().is_none() {
                    let message = "the text has no token in the vocabulary; remove the row";
                    return Err(Error::row(self.path(job), job.line, message));
                }
                ids.extend_from_slice(&own);
                types.iter().position(|&text| text == 1).map(|place| place as u64)
            } else {
                ids.extend(frames.before().filter(|_| job.first));
                encoder.encode(text, &mut ids).map_err(context)?;
                ids.extend(frames.after().filter(|_| job.last));
                None
            };
            // A row needs a token: an empty text becomes the end token.
            ids.extend(tokenizer.eos_id().filter(|_| job.first && job.last && ids.len() == start));
            ends.push((ids.len(), second));
        }
        Ok(Encoded { ids, ends })
    }

    fn path(&self, job: &Job) -> &Path {
        &self.sources.files[job.source].path
    }

    fn number(&self, labels: &mut Labels, label: &str, job: &Job) -> Result<u64> {
        if let Some(&number) = labels.numbers.get(label) {
            return Ok(number);
        }
        // Training documents define the labels; a validation document may not add one.
        if self.fixed_labels {
            return Err(Error::UnknownLabel {
                path: self.path(job).into(),
                line: job.line,
                label: label.into(),
                known: labels.names.clone(),
            });
        }
        Ok(labels.add(label.into()))
    }
}

/// Labels in the order of first occurrence, and the number of each.
#[derive(Default)]
struct Labels {
    names: Vec<String>,
    numbers: HashMap<String, u64>,
}

impl Labels {
    fn of(names: Vec<String>) -> Self {
        let mut labels = Self::default();
        for name in names {
            labels.add(name);
        }
        labels
    }

    fn add(&mut self, name: String) -> u64 {
        let number = self.names.len() as u64;
        self.numbers.insert(name.clone(), number);
        self.names.push(name);
        number
    }
}

/// The tokens of a group of documents, end to end.
struct Encoded {
    ids: Vec<u32>,
    /// Where each document ends, and where in it the second text of a pair begins, if there is one.
    ends: Vec<(usize, Option<u64>)>,
}

/// A store under construction.
struct Sink {
    tokens: Writer,
    ends: Writer,
    labels: Option<Writer>,
    pair_starts: Option<Writer>,
    /// Where the current document begins.
    start: u64,
}

impl Sink {
    fn end(&mut self, label: Option<u64>, second: Option<u64>) -> Result<()> {
        // A document without a second text has all its tokens in the first.
        let second = second.unwrap_or(self.tokens.len() - self.start);
        self.start = self.tokens.len();
        self.ends.push([self.tokens.len()].into_iter())?;
        for (column, number) in [(&mut self.labels, label), (&mut self.pair_starts, Some(second))] {
            if let Some(column) = column {
                column.push(number.into_iter())?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<MadeSet> {
        Ok(MadeSet {
            tokens: self.tokens.finish()?,
            ends: self.ends.finish()?,
            labels: self.labels.map(Writer::finish).transpose()?,
            pair_starts: self.pair_starts.map(Writer::finish).transpose()?,
        })
    }
}
