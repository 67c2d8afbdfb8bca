//! Answers each row of a file separately: in batches, as a table or as JSON lines.

use std::path::Path;

use anyhow::anyhow;
use vulpes_data::{Columns, DataKind, Scores, TextRow, for_each_row};
use vulpes_generate::{
    Framed, Request, Sampler, all_mask_tables, check_continues, embeddings, fill_all, generate, label_tables,
    next_tables,
};
use vulpes_model::Head;

use super::answer::{Answer, Form, Row, Writer};
use super::args::Args;
use super::inputs::Inputs;
use super::report::{report, report_json};
use crate::ending::{Failure, say};

/// Rows read before they are answered: enough to find many of similar length.
const WINDOW: usize = 1024;
/// Texts continued at once.
const TOGETHER: usize = 64;
/// Warnings of one kind that name their line.
const NAMED: u64 = 5;

/// Answers every row of the file at `path`.
pub(super) fn answer_rows(inputs: &Inputs, args: &Args, path: &Path) -> Result<(), Failure> {
    let columns = columns(inputs, args, path)?;
    let form = form(inputs, args)?;
    let mut work = Work {
        inputs,
        path,
        form,
        lookup: args.lookup,
        // A label in JSON comes with the probabilities of all labels.
        n: args.next.map_or(if args.json { usize::MAX } else { 1 }, |n| n as usize),
        writer: Writer::new(form, columns.pair.is_some(), columns.label.is_some(), args.json)?,
        scores: columns.label.is_some().then(|| Scores::new(inputs.labels.len())),
        n_answered: 0,
        left_out: Count::default(),
        cut: Count::default(),
        unknown: Count::default(),
        no_label: Count::default(),
    };
    let (mut window, mut number) = (Vec::new(), 0);
    for_each_row(path, &columns, &mut |row| -> Result<(), Failure> {
        number += 1;
        window.push(owned(number, row));
        if window.len() == WINDOW { work.answer(std::mem::take(&mut window)) } else { Ok(()) }
    })?;
    work.answer(window)?;
    work.finish()
}

fn owned(number: u64, row: TextRow<'_>) -> Row {
    let TextRow { text, pair, label, line } = row;
    Row { number, line, text: text.into(), pair: pair.map(Into::into), label: label.map(Into::into) }
}

/// The requested columns, checked against file and model.
fn columns(inputs: &Inputs, args: &Args, path: &Path) -> Result<Columns, Failure> {
    let refuse = |what: String| Err(Failure::usage(anyhow!(what)));
    if path == Path::new("-") {
        return refuse("rows can't be read from standard input; write them to a file first".into());
    }
    let name = path.display();
    let head = inputs.model.config().head;
    let given = [
        (&args.text_column, "--text-column"),
        (&args.pair_column, "--pair-column"),
        (&args.label_column, "--label-column"),
    ];
    let given = given.iter().find_map(|(column, flag)| column.is_some().then_some(flag));
    let kind = DataKind::by_ending(&name.to_string()).unwrap_or(DataKind::Text);
    if let (DataKind::Text, Some(flag)) = (kind, given) {
        return refuse(format!(
            "{name} is plain text, with a row per line: {flag} requires a table (.csv, .tsv or .jsonl)"
        ));
    }
    if args.label_column.is_some() && head.n_labels().is_none() {
        return refuse("--label-column requires a classifier; this model has no labels".into());
    }
    if args.pair_column.is_some() && head == Head::NextToken {
        return refuse(
            "--pair-column requires a model that reads pairs; this one continues a single text".into(),
        );
    }
    if args.pair_column.is_some() && matches!(head, Head::Hidden { .. }) {
        return refuse(
            "--pair-column: this model embeds each text separately; use one column at a time".into(),
        );
    }
    Ok(Columns {
        text: args.text_column.clone(),
        pair: args.pair_column.clone(),
        label: args.label_column.clone(),
    })
}

/// The kind of answer.
fn form(inputs: &Inputs, args: &Args) -> Result<Form, Failure> {
    match (inputs.model.config().head, args.next) {
        (Head::Classify { .. }, None) => Ok(Form::Label),
        (Head::Classify { .. }, Some(_)) => Ok(Form::Labels),
        (Head::Hidden { .. }, _) => Ok(Form::Embedding),
        (Head::MaskedToken, None) => Ok(Form::Filled),
        (Head::MaskedToken, Some(_)) => Ok(Form::Masks),
        (_, Some(_)) => Ok(Form::Next),
        (_, None) => Ok(check_continues(inputs.model.config()).map(|()| Form::Continued)?),
    }
}

/// How often something happened, and the first line where it did.
#[derive(Default)]
struct Count {
    n: u64,
    first_line: u64,
}

impl Count {
    fn add(&mut self, line: u64) {
        self.first_line = if self.n == 0 { line } else { self.first_line };
        self.n += 1;
    }

    /// Counts it, and warns the first few times.
    fn add_and_say(&mut self, line: u64, words: &str) {
        self.add(line);
        if self.n <= NAMED {
            say(&format!("warning: {words}"));
        }
    }

    /// Describes the rows and the first of their lines.
    fn rows(&self) -> String {
        match self.n {
            1 => format!("the row in line {}", self.first_line),
            n => format!("{n} rows, the first in line {},", self.first_line),
        }
    }
}

/// The state of answering a file's rows.
struct Work<'a> {
    inputs: &'a Inputs,
    path: &'a Path,
    form: Form,
    lookup: bool,
    /// The number of most likely labels or tokens.
    n: usize,
    writer: Writer,
    scores: Option<Scores>,
    n_answered: u64,
    left_out: Count,
    cut: Count,
    unknown: Count,
    no_label: Count,
}

impl Work<'_> {
    fn answer(&mut self, rows: Vec<Row>) -> Result<(), Failure> {
        let (rows, framed) = self.usable(rows);
        let answers = self.answers(&rows, &framed)?;
        for (row, answer) in rows.iter().zip(&answers) {
            self.writer.write(row, answer)?;
            if let (Some(given), Answer::Labels(labels)) = (&row.label, answer) {
                self.score(row.line, given, labels.first().map_or(usize::MAX, |best| best.id as usize));
            }
        }
        self.n_answered += rows.len() as u64;
        Ok(self.writer.flush()?)
    }

    /// The rows that the model can read, and their ids; warns about the others.
    fn usable(&mut self, rows: Vec<Row>) -> (Vec<Row>, Vec<Framed>) {
        let Inputs { model, tokenizer, .. } = self.inputs;
        let texts: Vec<_> = rows.iter().map(|row| (row.text.as_str(), row.pair.as_deref())).collect();
        let all = Framed::all(model.config(), tokenizer, &texts, self.inputs.most);
        let (mut usable, mut framed) = (Vec::new(), Vec::new());
        for (row, read) in rows.into_iter().zip(all) {
            let is_empty = row.text.trim().is_empty();
            let read = read.map_err(|error| error.to_string());
            let read = read.and_then(|read| match read.problem(model.config(), tokenizer) {
                _ if is_empty => Err("the text is empty".to_owned()),
                Some(problem) => Err(problem),
                None => Ok(read),
            });
            match read {
                Ok(read) => {
                    if read.n_cut > 0 {
                        self.cut.add(row.line);
                    }
                    if read.has_unknown {
                        self.unknown.add(row.line);
                    }
                    usable.push(row);
                    framed.push(read);
                }
                Err(why) => {
                    let words = format!("{}:{}: {why}; row skipped", self.path.display(), row.line);
                    self.left_out.add_and_say(row.line, &words);
                }
            }
        }
        (usable, framed)
    }

    fn answers(&self, rows: &[Row], framed: &[Framed]) -> Result<Vec<Answer>, Failure> {
        let Inputs { model, tokenizer, labels, config, .. } = self.inputs;
        match self.form {
            Form::Label | Form::Labels => {
                let tables = label_tables(model.transformer()?, labels, framed, self.n)?;
                Ok(tables.into_iter().map(Answer::Labels).collect())
            }
            Form::Embedding => {
                let vectors = embeddings(model.transformer()?, self.inputs.embedder, framed)?;
                Ok(vectors.into_iter().map(Answer::Embedding).collect())
            }
            Form::Next => Ok(next_tables(model.source(), tokenizer, framed, self.n)?
                .into_iter()
                .map(Answer::Next)
                .collect()),
            Form::Masks => {
                let tables = all_mask_tables(model.transformer()?, tokenizer, framed, self.n)?;
                Ok(tables.into_iter().map(Answer::Masks).collect())
            }
            Form::Filled => {
                let sampler = Sampler::new(config.clone(), self.inputs.seed);
                let filled =
                    fill_all(model.transformer()?, tokenizer, framed, &sampler, first(rows))?.into_iter();
                filled.map(|row| Ok(Answer::Filled(tokenizer.decode(&row.ids, true)?))).collect()
            }
            Form::Continued => {
                let mut answers = Vec::new();
                for (rows, framed) in rows.chunks(TOGETHER).zip(framed.chunks(TOGETHER)) {
                    let request = Request {
                        prompts: framed.iter().map(|row| row.ids.clone()).collect(),
                        config: config.clone(),
                        seed: self.inputs.seed,
                        first: first(rows),
                        end_ids: self.inputs.end_ids.clone(),
                        trace: false,
                        lookup: self.lookup,
                    };
                    let samples = generate(model.source(), tokenizer, &request, &mut |_, _| true)?;
                    answers.extend(samples.into_iter().map(|sample| Answer::Continued(sample.text)));
                }
                Ok(answers)
            }
        }
    }

    /// Scores a prediction against a label given by name or, if no name is a number, by index.
    fn score(&mut self, line: u64, given: &str, predicted: usize) {
        let labels = &self.inputs.labels;
        let by_number = || {
            let numbered = labels.iter().all(|label| label.parse::<i64>().is_err());
            given.parse().ok().filter(|&number| numbered && number < labels.len())
        };
        let number = labels.iter().position(|label| label == given).or_else(by_number);
        match (number, &mut self.scores) {
            (Some(number), Some(scores)) => scores.count(number, predicted),
            _ => {
                let path = self.path.display();
                let known = labels.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
                let words =
                    format!("{path}:{line}: unknown label {given:?} (the model has {known}); row not scored");
                self.no_label.add_and_say(line, &words);
            }
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let context = self.inputs.most;
        for (count, what) in [(&self.left_out, "skipped"), (&self.no_label, "not scored")] {
            if count.n > NAMED {
                say(&format!("warning: {} rows are {what}, the first {NAMED} named above", count.n));
            }
        }
        if self.cut.n > 0 {
            let rows = self.cut.rows();
            say(&format!("warning: cut to the context of {context} tokens: {}", rows.trim_end_matches(',')));
        }
        if self.unknown.n > 0 {
            let rows = self.unknown.rows();
            say(&format!("warning: words not in the vocabulary: {}", rows.trim_end_matches(',')));
        }
        if self.n_answered == 0 {
            let path = self.path.display();
            return Err(Failure::failed(anyhow!("{path} has no row that this model can read")));
        }
        if matches!(self.form, Form::Filled | Form::Continued) {
            self.inputs.say_seed();
        }
        if let Some(scores) = &self.scores {
            match self.writer.json_line(&report_json(scores, &self.inputs.labels))? {
                true => self.writer.flush()?,
                false => say(&report(scores, &self.inputs.labels)),
            }
        }
        Ok(())
    }
}

/// The random stream of the first of these rows: each row has its own, by number.
fn first(rows: &[Row]) -> u64 {
    rows.first().map_or(0, |row| row.number - 1)
}
