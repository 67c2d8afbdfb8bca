//! Writes the answers to rows: a tab-separated table, or a JSON object per line.

use std::io::{BufWriter, Error, Result, Stdout, Write};

use serde_json::{Map, Value, json};
use vulpes_generate::{MaskTable, NextToken};

use super::output;

/// One row of a file.
pub(super) struct Row {
    /// Its number, from 1.
    pub(super) number: u64,
    /// The line where it begins.
    pub(super) line: u64,
    pub(super) text: String,
    pub(super) pair: Option<String>,
    pub(super) label: Option<String>,
}

/// The kind of answer to each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The most likely label.
    Label,
    /// The most likely labels.
    Labels,
    /// The most likely next tokens.
    Next,
    /// The most likely tokens for each mask.
    Masks,
    /// The text with its masks filled.
    Filled,
    /// The continuation of the text.
    Continued,
    /// The text's embedding.
    Embedding,
}

impl Form {
    /// The columns between the row's number and its text.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Label => &["label", "probability"],
            Self::Labels => &["rank", "label", "probability"],
            Self::Next => &["rank", "token", "probability"],
            Self::Masks => &["mask", "rank", "token", "probability"],
            Self::Filled => &["filled"],
            Self::Continued => &["continuation"],
            Self::Embedding => &["embedding"],
        }
    }
}

/// The answer to one row.
pub(super) enum Answer {
    Labels(Vec<NextToken>),
    Next(Vec<NextToken>),
    Masks(Vec<MaskTable>),
    Filled(String),
    Continued(String),
    Embedding(Vec<f32>),
}

impl Answer {
    /// The fields between the row's number and its text, for each line of the answer.
    fn lines(&self, form: Form) -> Vec<Vec<String>> {
        let ranked = |next: &[NextToken]| -> Vec<Vec<String>> {
            let line = |(rank, line): (usize, &NextToken)| {
                vec![(rank + 1).to_string(), line.text.clone(), format!("{:.4}", line.probability)]
            };
            next.iter().enumerate().map(line).collect()
        };
        match self {
            Self::Labels(next) if form == Form::Label => {
                ranked(next).into_iter().map(|mut line| line.split_off(1)).collect()
            }
            Self::Labels(next) | Self::Next(next) => ranked(next),
            Self::Masks(tables) => {
                let numbered = |(number, table): (usize, &MaskTable)| {
                    let mask = (number + 1).to_string();
                    ranked(&table.next).into_iter().map(move |line| [vec![mask.clone()], line].concat())
                };
                tables.iter().enumerate().flat_map(numbered).collect()
            }
            Self::Filled(text) | Self::Continued(text) => vec![vec![text.clone()]],
            Self::Embedding(vector) => vec![vec![output::numbers(vector)]],
        }
    }

    fn json(&self, form: Form, object: &mut Map<String, Value>) -> serde_json::Result<()> {
        let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        match self {
            Self::Labels(next) => {
                if let Some(best) = next.first() {
                    put("label", json!(best.text));
                    put("probability", json!(best.probability));
                }
                let of = |label: &NextToken| (label.text.clone(), json!(label.probability));
                match form {
                    Form::Labels => put("next", serde_json::to_value(next)?),
                    _ => put("probabilities", Value::Object(next.iter().map(of).collect())),
                }
            }
            Self::Next(next) => put("next", serde_json::to_value(next)?),
            Self::Masks(tables) => put("masks", serde_json::to_value(tables)?),
            Self::Filled(text) => put("filled", json!(text)),
            Self::Continued(text) => put("continuation", json!(text)),
            Self::Embedding(vector) => put("embedding", json!(vector)),
        }
        Ok(())
    }
}

/// Writes answers to standard output.
pub(super) struct Writer {
    form: Form,
    out: Out,
}

enum Out {
    Json(BufWriter<Stdout>),
    Table(Box<csv::Writer<Stdout>>),
}

impl Writer {
    /// Creates a writer and writes the table's header: `row`, the answer's columns, `text`, and `pair` and `given` if
    /// requested.
    pub(super) fn new(form: Form, pairs: bool, labels: bool, as_json: bool) -> Result<Self> {
        if as_json {
            return Ok(Self { form, out: Out::Json(BufWriter::new(std::io::stdout())) });
        }
        // A field with a tab, a quote or a line end is quoted, as in CSV.
        let mut table = csv::WriterBuilder::new().delimiter(b'\t').from_writer(std::io::stdout());
        let more = [("pair", pairs), ("given", labels)].into_iter().filter(|(_, wanted)| *wanted);
        let head = ["row"].into_iter().chain(form.columns().iter().copied()).chain(["text"]);
        table.write_record(head.chain(more.map(|(name, _)| name))).map_err(io_error)?;
        Ok(Self { form, out: Out::Table(Box::new(table)) })
    }

    /// Writes the answer to a row.
    pub(super) fn write(&mut self, row: &Row, answer: &Answer) -> Result<()> {
        match &mut self.out {
            Out::Json(out) => {
                let mut object = Map::new();
                object.insert("row".to_owned(), json!(row.number));
                object.insert("line".to_owned(), json!(row.line));
                answer.json(self.form, &mut object)?;
                object.insert("text".to_owned(), json!(row.text));
                for (key, value) in [("pair", &row.pair), ("given", &row.label)] {
                    object.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
                }
                line(out, &Value::Object(object))
            }
            Out::Table(table) => {
                for fields in answer.lines(self.form) {
                    let own = [Some(&row.text), row.pair.as_ref(), row.label.as_ref()];
                    let number = row.number.to_string();
                    let all = [&number].into_iter().chain(&fields).chain(own.into_iter().flatten());
                    table.write_record(all).map_err(io_error)?;
                }
                Ok(())
            }
        }
    }

    /// Writes a line of JSON; returns whether this writer writes JSON.
    pub(super) fn json_line(&mut self, value: &Value) -> Result<bool> {
        match &mut self.out {
            Out::Json(out) => line(out, value).map(|()| true),
            Out::Table(_) => Ok(false),
        }
    }

    /// Flushes the output.
    pub(super) fn flush(&mut self) -> Result<()> {
        match &mut self.out {
            Out::Json(out) => out.flush(),
            Out::Table(table) => table.flush(),
        }
    }
}

/// The system's error, so that a closed pipe is recognized.
fn io_error(error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => Error::other(format!("{other:?}")),
    }
}

fn line(out: &mut BufWriter<Stdout>, value: &Value) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
