//! Opens conversations: reads the files, renders the rows and cuts them to the row length.

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::chat_rows::Chats;
use super::rows::Rows;
use super::sets::{OpenOptions, Sets};
use super::text::overlap;
use super::unsaid;
use crate::chat::{ChatTemplate, Conversation, Cut, RowsOf, rows_within};
use crate::config::{DataConfig, RowKind, TokenizerConfig, TokenizerKind};
use crate::corpus::{Source, Sources, fault, for_each_line};
use crate::error::{Error, Result};
use crate::progress::Stage;
use crate::store::belongs_to_validation;
use crate::tokenizer::{Tokenizer, Unsaid};

/// How many lines are read before they are rendered together, on all threads.
const ROUND: usize = 2048;

pub(super) fn open(data: &DataConfig, options: &OpenOptions<'_>) -> Result<Sets> {
    let sources = Sources::find("data.train", &data.train)?;
    let validation_sources = (!data.validation.is_empty())
        .then(|| Sources::find("data.validation", &data.validation))
        .transpose()?;
    let mut warnings: Vec<String> =
        validation_sources.as_ref().and_then(|theirs| overlap(&sources, theirs)).into_iter().collect();
    // The template of a folder goes with its tokenizer.
    let of_tokenizer = data.tokenizer.path.as_deref().map(std::path::Path::new).filter(|path| path.is_dir());
    let folder = options.folder.or(of_tokenizer);
    let started = ChatTemplate::now();
    let template = |tokenizer: Option<&Tokenizer>| -> Result<ChatTemplate> {
        let template = ChatTemplate::find(folder, data.template.as_deref(), tokenizer)?;
        let template = match &data.tokenizer.eos {
            Some(eos) => template.with_token("eos_token", eos),
            None => template,
        };
        // All rows are of one moment.
        match (&data.now, template.reads_clock()) {
            (Some(now), _) => template.with_clock(now),
            (None, true) => template.with_clock(&started),
            (None, false) => Ok(template),
        }
    };
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => tokenizer.clone().with_config(&data.tokenizer)?,
        (None, TokenizerKind::File) => Tokenizer::of(&data.tokenizer)?,
        (None, _) => train_tokenizer(&sources, &template(None)?, &data.tokenizer, options, &mut warnings)?,
    };
    warnings.extend(tokenizer.warnings().iter().cloned());
    let template = template(Some(&tokenizer))?;
    if data.now.is_some() && !template.reads_clock() {
        let message = "has no effect: the template doesn't read the clock (strftime_now)";
        return Err(Error::config("data.now", message));
    }
    let mut reader = Reader { template: &template, tokenizer: &tokenizer, options, told: Told::default() };
    let fraction = data.validation_fraction.filter(|_| validation_sources.is_none());
    let (mut train, mut apart) = reader.read(&sources, fraction)?;
    if fraction.is_some_and(|fraction| fraction > 0.0) && (train.is_empty() || apart.is_empty()) {
        let n = reader.told.n_read;
        let message = format!(
            "of {n} conversations none fell into one of the sets; set another share, or data.validation"
        );
        return Err(Error::config("data.validation_fraction", message));
    }
    let mut validation = match &validation_sources {
        Some(sources) => Some(reader.read(sources, None)?.0),
        None => fraction.map(|_| std::mem::take(&mut apart)),
    };
    warnings.extend(reader.told.warnings(&sources.what, &tokenizer, options));
    if data.rows == Some(RowKind::Windows) {
        [Some(&mut train), validation.as_mut()]
            .into_iter()
            .flatten()
            .for_each(|set| set.pack(options.context_len));
    }
    Ok(Sets {
        train: Rows::Chats(train),
        validation: validation.map(Rows::Chats),
        labels: vec![],
        n_labels: 0,
        vocab_size: tokenizer.vocab_size(),
        tokenizer: Some(tokenizer),
        warnings,
        template: Some(template),
    })
}

/// One line of a file.
struct Line {
    number: u64,
    text: String,
}

/// Reads the files of conversations.
struct Reader<'a> {
    template: &'a ChatTemplate,
    tokenizer: &'a Tokenizer,
    options: &'a OpenOptions<'a>,
    told: Told,
}

/// Statistics of the conversations that were read, for warnings.
#[derive(Default)]
struct Told {
    n_read: usize,
    n_touched: usize,
    cut: Cut,
    /// How many have a message that the template leaves out, and the first of them.
    n_unseen: usize,
    unseen: Option<String>,
    unsaid: Unsaid,
}

impl Reader<'_> {
    /// The rows of the files, split into training and validation by the content of their lines.
    fn read(&mut self, sources: &Sources, fraction: Option<f64>) -> Result<(Chats, Chats)> {
        let (mut train, mut apart) = (Chats::default(), Chats::default());
        let total = sources.n_bytes();
        let mut done = 0;
        self.options.progress.report(Stage::Tokenize, 0, total);
        let before = self.told.n_read;
        for source in &sources.files {
            let keep_texts = self.options.keep_texts;
            for_each_round(source, &mut |lines, read| {
                let rows: Vec<Result<RowsOf>> =
                    lines.par_iter().map(|line| self.rows_of(source, line)).collect();
                for (line, rows) in lines.iter().zip(rows) {
                    let rows = rows?;
                    self.told.add(source, line, &rows, self.tokenizer)?;
                    let is_validation = fraction.is_some_and(|fraction| {
                        belongs_to_validation(&blake3::hash(line.text.trim().as_bytes()), fraction)
                    });
                    if is_validation { &mut apart } else { &mut train }.push(rows, keep_texts);
                }
                self.options.progress.report(Stage::Tokenize, (done + read).min(total), total);
                Ok(())
            })?;
            done += source.len;
        }
        self.options.progress.report(Stage::Tokenize, total, total);
        if self.told.n_read == before {
            return Err(Error::Empty { what: sources.what.clone() });
        }
        if train.is_empty() && apart.is_empty() {
            let OpenOptions { len_key, context_len, .. } = self.options;
            let message = format!("{context_len} tokens don't hold one answer of {}; set more", sources.what);
            return Err(Error::config(len_key, message));
        }
        Ok((train, apart))
    }

    /// The rows of one line; an error names its position.
    fn rows_of(&self, source: &Source, line: &Line) -> Result<RowsOf> {
        let bad = |message: String| Error::row(&source.path, line.number, message);
        let conversation = conversation_of(source, line)?;
        let rows = rows_within(self.template, self.tokenizer, &conversation, self.options.context_len);
        match rows {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(why)) => Err(bad(why)),
            Err(error @ (Error::Template { .. } | Error::Tokenizer { .. })) => Err(bad(error.to_string())),
            Err(error) => Err(error),
        }
    }
}

impl Told {
    fn add(&mut self, source: &Source, line: &Line, rows: &RowsOf, tokenizer: &Tokenizer) -> Result<()> {
        self.n_read += 1;
        self.n_touched += usize::from(rows.cut != Cut::default());
        self.cut.n_cut += rows.cut.n_cut;
        self.cut.n_left_out += rows.cut.n_left_out;
        if let Some(message) = rows.unseen {
            self.n_unseen += 1;
            let first = || format!("message {} of {}:{}", message + 1, source.path.display(), line.number);
            self.unseen.get_or_insert_with(first);
        }
        for row in &rows.rows {
            if self.unsaid.of >= unsaid::LOOKED_AT {
                break;
            }
            let one = tokenizer.unsaid(&row.text)?;
            self.unsaid.lost += one.lost;
            self.unsaid.of += one.of;
        }
        Ok(())
    }

    fn warnings(&self, what: &str, tokenizer: &Tokenizer, options: &OpenOptions<'_>) -> Vec<String> {
        let Self { n_read, n_touched, cut: Cut { n_cut, n_left_out }, n_unseen, .. } = *self;
        let mut warnings = Vec::new();
        if n_touched > 0 {
            let OpenOptions { len_key, context_len, .. } = options;
            let mut became = Vec::new();
            if n_cut > 0 {
                became.push(format!("{n_cut} of their rows end after an earlier turn"));
            }
            if n_left_out > 0 {
                became.push(format!("{n_left_out} are left out, as their first answer ends later"));
            }
            warnings.push(format!(
                "{n_touched} of {n_read} conversations are longer than {len_key} = {context_len} tokens: {}",
                became.join(", ")
            ));
        }
        if let Some(first) = &self.unseen {
            warnings.push(format!(
                "the template leaves messages out, in {n_unseen} of {n_read} conversations; the first is {first}"
            ));
        }
        warnings.extend(unsaid::told(self.unsaid, what, tokenizer));
        warnings
    }
}

/// The conversation in a line.
fn conversation_of(source: &Source, line: &Line) -> Result<Conversation> {
    let bad = |message: String| Error::row(&source.path, line.number, message);
    let row: Map<String, Value> = serde_json::from_str(&line.text)
        .map_err(|error| bad(format!("{}; wanted one JSON object per line", fault(&error, &line.text))))?;
    Conversation::of_row(row).map_err(bad)
}

/// Passes on the lines of a file in rounds, with the bytes read up to their end.
fn for_each_round(source: &Source, each: &mut dyn FnMut(&[Line], u64) -> Result<()>) -> Result<()> {
    source.check_text()?;
    let mut lines = Vec::new();
    for_each_line(source, &mut |text, number, read| {
        lines.push(Line { number, text: text.to_owned() });
        if lines.len() < ROUND {
            return Ok(());
        }
        let round = std::mem::take(&mut lines);
        each(&round, read)
    })?;
    if lines.is_empty() { Ok(()) } else { each(&lines, source.len) }
}

/// A tokenizer trained on the rendered conversations, so that it covers what the template writes.
fn train_tokenizer(
    sources: &Sources,
    template: &ChatTemplate,
    config: &TokenizerConfig,
    options: &OpenOptions<'_>,
    warnings: &mut Vec<String>,
) -> Result<Tokenizer> {
    let total = sources.n_bytes();
    let (share, told) = config.share_of(total);
    warnings.extend(told);
    let mut texts: Vec<String> = Vec::new();
    let (mut n_kept, mut n_seen) = (0_u64, 0_u64);
    options.progress.report(Stage::TrainTokenizer, 0, total);
    for source in &sources.files {
        for_each_round(source, &mut |lines, _| {
            for line in lines {
                if n_kept as f64 <= n_seen as f64 * share {
                    let bad = |message: String| Error::row(&source.path, line.number, message);
                    let conversation = conversation_of(source, line)?;
                    conversation.check_roles(template.source()).map_err(bad)?;
                    let text =
                        template.render(&conversation, false).map_err(|error| bad(error.to_string()))?;
                    n_kept += line.text.len() as u64;
                    texts.push(text);
                }
                n_seen += line.text.len() as u64;
            }
            Ok(())
        })?;
    }
    options.progress.report(Stage::TrainTokenizer, total, total);
    if texts.is_empty() {
        return Err(Error::Empty { what: sources.what.clone() });
    }
    Tokenizer::train(config, texts.iter().map(String::as_str))
}
