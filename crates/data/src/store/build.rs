//! A corpus tokenized on all threads, into one store or, with a validation share, into two.

use std::path::Path;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;
use serde::Serialize;

use super::{Finished, Target, Writer};
use super::{Store, Width};
use crate::corpus::{Document, Reading, Sources, read};
use crate::progress::{Progress, Stage};
use crate::tokenizer::{Encoder, Session};
use crate::{DataKind, DocumentConfig, Error, Result, Tokenizer};

/// How a document becomes tokens.
#[derive(Clone, Debug)]
pub(crate) struct Encoding {
    pub(crate) tokenizer: Tokenizer,
    /// The tokenizer's frame about each document; `None`: the bare text with the end token after it.
    pub(crate) frame: Option<Frame>,
}

/// The frame about a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// The most tokens a framed document may have; the text is cut to fit.
    pub(crate) max_len: Option<usize>,
}

/// Which documents are set apart for validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) enum Split {
    /// None.
    None,
    /// This share, chosen by the documents' content.
    Content(f64),
    /// What stands from this byte on in the only document.
    Position(u64),
}

/// What is to be built.
pub(crate) struct Build<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) reading: Reading<'a>,
    pub(crate) encoding: &'a Encoding,
    pub(crate) split: Split,
    /// The labels already numbered; with `fixed_labels` no other may occur.
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
    /// How many documents there were, and the bytes of the first.
    pub(crate) n_documents: u64,
    pub(crate) first_len: u64,
}

/// What was built: as [`Built`], in memory or in files that are not mapped yet.
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
    pub(crate) seconds: Option<Finished>,
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
                seconds: set.seconds.and_then(column),
            })
        });
        let Self { labels, n_documents, first_len, .. } = self;
        Some(Built { train: train?, validation: validation?, labels, n_documents, first_len })
    }
}

/// A part of a document on its way to the encoder.
struct Job {
    text: String,
    pair: Option<String>,
    label: Option<String>,
    /// The number of its file.
    source: usize,
    line: u64,
    last: bool,
    /// Whether it goes to the validation set.
    apart: bool,
    /// How many bytes of the files it stands for, for the progress.
    n_bytes: u64,
}

/// How many bytes of text one round of the encoders takes at most.
const ROUND: usize = 4 << 20;

impl Build<'_> {
    /// Reads, encodes and collects.
    pub(crate) fn run(self, target: &Target) -> Result<Made> {
        let encoder = Encoder::new(&self.encoding.tokenizer);
        let mut sinks = ["train", "validation"].map(|set| self.sink(set, target));
        let mut labels = self.labels.clone();
        let (mut n_documents, mut first_len) = (0, 0);
        let total = self.sources.n_bytes();
        let mut done = 0;
        self.progress.report(Stage::Tokenize, 0, total);
        self.rounds(&mut |jobs| {
            let encoded: Vec<Encoded> = jobs
                .par_iter()
                .map_init(|| encoder.session(), |session, job| self.encode(session, job))
                .collect::<Result<_>>()?;
            for (job, encoded) in jobs.iter().zip(encoded) {
                let sink = &mut sinks[usize::from(job.apart)];
                sink.tokens.push(encoded.ids.iter().map(|&id| u64::from(id)))?;
                if n_documents == 0 {
                    first_len += job.text.len() as u64;
                }
                if job.last {
                    let label =
                        job.label.as_deref().map(|label| self.number(&mut labels, label, job)).transpose()?;
                    sink.end(label, encoded.second)?;
                    n_documents += 1;
                }
                done += job.n_bytes;
            }
            self.progress.report(Stage::Tokenize, done.min(total), total);
            Ok(())
        })?;
        self.progress.report(Stage::Tokenize, total, total);
        let [train, validation] = sinks;
        Ok(Made { sets: [train.finish()?, validation.finish()?], labels, n_documents, first_len })
    }

    fn sink(&self, set: &'static str, target: &Target) -> Sink {
        let width = Width::of_ids(self.encoding.tokenizer.vocab_size());
        let name = |column: &str| format!("{set}-{column}");
        Sink {
            tokens: Writer::new(width, name("tokens"), target),
            ends: Writer::new(Width::U64, name("ends"), target),
            labels: self.reading.labels.then(|| Writer::new(Width::U32, name("labels"), target)),
            seconds: self.encoding.frame.is_some().then(|| Writer::new(Width::U32, name("seconds"), target)),
        }
    }

    /// Reads on a thread of its own and hands the documents over in rounds.
    fn rounds(&self, each: &mut dyn FnMut(Vec<Job>) -> Result<()>) -> Result<()> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<Vec<Job>>(1);
            let reader = scope.spawn(move || {
                let mut round = Vec::new();
                let mut size = 0;
                for (number, source) in self.sources.files.iter().enumerate() {
                    let mut place = Place::new(self, number)?;
                    read(source, &self.reading, &mut |document| {
                        for job in place.jobs(document) {
                            size += job.text.len();
                            round.push(job);
                        }
                        if size >= ROUND {
                            size = 0;
                            // A receiver that is gone has met an error of its own, which is the one to report.
                            sender.send(std::mem::take(&mut round)).ok();
                        }
                        Ok(())
                    })?;
                    source.check()?;
                }
                sender.send(round).ok();
                Ok(())
            });
            let encoded = receiver.into_iter().try_for_each(each);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            encoded.and(read)
        })
    }

    fn encode(&self, session: &mut Session<'_>, job: &Job) -> Result<Encoded> {
        let Encoding { tokenizer, frame } = self.encoding;
        let context = |error: Error| match error {
            Error::Tokenizer { message, .. } => Error::row(self.path(job), job.line, message),
            other => other,
        };
        match frame {
            Some(frame) => {
                let (ids, types) = tokenizer
                    .encode_framed(&job.text, job.pair.as_deref(), frame.max_len)
                    .map_err(context)?;
                let second = types.iter().position(|&text| text == 1).unwrap_or(ids.len());
                Ok(Encoded { ids, second: Some(second as u64) })
            }
            None => {
                let mut ids = session.encode(&job.text).map_err(context)?;
                if job.last {
                    ids.extend(tokenizer.eos_id());
                }
                Ok(Encoded { ids, second: None })
            }
        }
    }

    fn path(&self, job: &Job) -> &Path {
        &self.sources.files[job.source].path
    }

    fn number(&self, labels: &mut Vec<String>, label: &str, job: &Job) -> Result<u64> {
        if let Some(number) = labels.iter().position(|known| known == label) {
            return Ok(number as u64);
        }
        // Training documents name the labels; a validation document may not bring a new one.
        if self.fixed_labels {
            return Err(Error::UnknownLabel {
                path: self.path(job).into(),
                line: job.line,
                label: label.into(),
                known: labels.clone(),
            });
        }
        labels.push(label.into());
        Ok(labels.len() as u64 - 1)
    }
}

struct Encoded {
    ids: Vec<u32>,
    second: Option<u64>,
}

/// Where the reader stands in a file: how far in the document, and which set the document goes to.
struct Place<'a> {
    build: &'a Build<'a>,
    source: usize,
    n_read: u64,
    /// The set of a file that is one document, known from the digest of all of it.
    file_apart: Option<bool>,
}

impl<'a> Place<'a> {
    fn new(build: &'a Build<'a>, source: usize) -> Result<Self> {
        let whole = build.reading.config.kind == DataKind::Text
            && build.reading.config.document == DocumentConfig::File;
        let file_apart = match build.split {
            Split::Content(fraction) if whole => {
                Some(is_apart(&build.sources.files[source].digest(&mut |_| {})?, fraction))
            }
            _ => None,
        };
        Ok(Self { build, source, n_read: 0, file_apart })
    }

    /// A document, or part of one, as one job, or as two where the set changes within it.
    fn jobs(&mut self, document: Document<'_>) -> impl Iterator<Item = Job> {
        let text = document.text;
        let start = self.n_read;
        self.n_read = if document.last { 0 } else { start + text.len() as u64 };
        let job = |text: &str, last: bool, apart: bool| Job {
            text: text.into(),
            pair: document.pair.map(String::from),
            label: document.label.map(String::from),
            source: self.source,
            line: document.line,
            last,
            apart,
            n_bytes: text.len() as u64 + 1,
        };
        let (first, second) = match self.build.split {
            Split::None => (Some(job(text, document.last, false)), None),
            Split::Content(fraction) => {
                let apart =
                    self.file_apart.unwrap_or_else(|| is_apart(&blake3::hash(text.as_bytes()), fraction));
                (Some(job(text, document.last, apart)), None)
            }
            Split::Position(at) => {
                let mut cut = at.saturating_sub(start).min(text.len() as u64) as usize;
                while !text.is_char_boundary(cut) {
                    cut -= 1;
                }
                let crosses = at >= start && at < start + text.len() as u64;
                let first = (cut > 0 || crosses).then(|| job(&text[..cut], crosses || document.last, false));
                let second = (cut < text.len()).then(|| job(&text[cut..], document.last, true));
                (first, second)
            }
        };
        first.into_iter().chain(second)
    }
}

/// Whether a document with this digest is in the share that is set apart: no other document has a say in it.
fn is_apart(digest: &blake3::Hash, fraction: f64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    (number >> 11) as f64 * (1.0 / (1u64 << 53) as f64) < fraction
}

/// A store that grows.
struct Sink {
    tokens: Writer,
    ends: Writer,
    labels: Option<Writer>,
    seconds: Option<Writer>,
}

impl Sink {
    fn end(&mut self, label: Option<u64>, second: Option<u64>) -> Result<()> {
        self.ends.push([self.tokens.len()].into_iter())?;
        for (column, number) in [(&mut self.labels, label), (&mut self.seconds, second)] {
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
            seconds: self.seconds.map(Writer::finish).transpose()?,
        })
    }
}
