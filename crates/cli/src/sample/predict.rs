//! What a classifier says: of the texts that were typed, or of every row of a file.

use std::io::Write;
use std::path::Path;

use anyhow::anyhow;
use serde_json::{Value, json};
use vulpes_data::{DataConfig, DataKind, DocumentConfig, Tokenizer, read_rows};
use vulpes_generate::{Confusion, Framed, NextToken, classify};
use vulpes_model::Transformer;

use super::args::Args;
use super::output;
use crate::ending::Failure;

/// Rows that are read before they are labeled.
const ROWS: usize = 512;

/// A classifier with the names of its labels.
pub(super) struct Classifier<'a> {
    pub(super) model: &'a Transformer,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) labels: &'a [String],
}

/// One row of a file, as it waits to be labeled.
struct Row {
    line: u64,
    text: String,
    right: Option<String>,
    framed: Framed,
}

impl Classifier<'_> {
    fn name(&self, label: u32) -> String {
        self.labels.get(label as usize).cloned().unwrap_or_else(|| format!("LABEL_{label}"))
    }

    fn classify(&self, texts: &[Framed]) -> Result<Vec<Vec<NextToken>>, Failure> {
        Ok(classify(self.model, texts, &|label| self.name(label))?)
    }

    /// Labels the texts that were typed: each one's likeliest label, or with `--next` a table.
    pub(super) fn texts(&self, args: &Args, texts: &[String]) -> Result<(), Failure> {
        let framed = texts.iter().map(|text| Framed::new(text, None, self.tokenizer, self.model));
        let framed: Vec<Framed> = framed.collect::<Result<_, _>>()?;
        self.say_cut(framed.iter().filter(|text| text.is_cut).count());
        let tables = self.classify(&framed)?;
        if args.json {
            let document = |(text, table): (&Framed, &Vec<NextToken>)| json!({ "prompt_ids": text.ids, "label": table.first().map(|label| &label.text), "next": table });
            let documents = framed.iter().zip(&tables).map(document).collect();
            return Ok(output::document(&output::one_or_many(documents))?);
        }
        for (number, (text, table)) in texts.iter().zip(&tables).enumerate() {
            if texts.len() > 1 {
                writeln!(std::io::stdout(), "{}{text}", if number > 0 { "\n" } else { "" })?;
            }
            let shown = args.next.map_or(1, |n| n as usize).min(table.len());
            output::table(&table[..shown])?;
        }
        Ok(())
    }

    /// Labels every row of the file at `path`, and says how well where the rows have labels.
    pub(super) fn file(&self, args: &Args, path: &Path) -> Result<(), Failure> {
        let config = reading(args, path);
        let mut rows = Vec::new();
        let mut report = args.label_column.as_ref().map(|_| Confusion::new(self.model_labels()));
        let (mut n_cut, mut unknown) = (0, 0);
        if !args.json {
            writeln!(std::io::stdout(), "line\tlabel\tprobability\ttext")?;
        }
        let mut failed = None;
        let read = read_rows(path, &config, report.is_some(), &mut |row| {
            if failed.is_some() {
                return Ok(());
            }
            let framed = Framed::new(row.text, row.pair, self.tokenizer, self.model);
            let done = framed.map_err(Failure::from).and_then(|framed| {
                if row.text.trim().is_empty() || framed.ids.is_empty() {
                    let words = anyhow!("{}:{}: the text is empty", path.display(), row.line);
                    return Err(Failure::failed(words));
                }
                n_cut += usize::from(framed.is_cut);
                let (text, right) = (row.text.to_owned(), row.label.map(str::to_owned));
                rows.push(Row { line: row.line, text, right, framed });
                if rows.len() < ROWS {
                    return Ok(());
                }
                self.label(args, &mut rows, report.as_mut(), &mut unknown)
            });
            failed = done.err();
            Ok(())
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        read?;
        self.label(args, &mut rows, report.as_mut(), &mut unknown)?;
        self.say_cut(n_cut);
        if unknown > 0 {
            eprintln!(
                "warning: {unknown} rows have a label that the model doesn't know, and are not counted"
            );
        }
        match report {
            Some(report) if args.json => Ok(output::document(&json!({ "report": self.json_of(&report) }))?),
            Some(report) => {
                eprint!("{}", self.text_of(&report));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn model_labels(&self) -> usize {
        match self.model.config().head {
            vulpes_model::Head::Classify { n_labels } => n_labels,
            _ => 0,
        }
    }

    /// Labels the rows that wait, and prints them in their order.
    fn label(
        &self,
        args: &Args,
        rows: &mut Vec<Row>,
        mut report: Option<&mut Confusion>,
        unknown: &mut usize,
    ) -> Result<(), Failure> {
        let framed: Vec<Framed> = rows.iter_mut().map(|row| std::mem::take(&mut row.framed)).collect();
        let mut out = std::io::stdout().lock();
        for (row, table) in rows.drain(..).zip(self.classify(&framed)?) {
            let Some(chosen) = table.first() else { continue };
            if args.json {
                let probabilities: serde_json::Map<String, Value> =
                    table.iter().map(|label| (label.text.clone(), label.probability.into())).collect();
                let document = json!({ "line": row.line, "label": chosen.text, "probability": chosen.probability,
                                       "probabilities": probabilities, "right": row.right, "text": row.text });
                writeln!(out, "{document}")?;
            } else {
                let text = row.text.replace(['\t', '\n', '\r'], " ");
                writeln!(out, "{}\t{}\t{:.4}\t{text}", row.line, chosen.text, chosen.probability)?;
            }
            if let (Some(report), Some(right)) = (report.as_deref_mut(), &row.right) {
                match (0..self.model_labels()).find(|label| self.name(*label as u32) == *right) {
                    Some(right) => report.add(right, chosen.id as usize),
                    None => *unknown += 1,
                }
            }
        }
        Ok(out.flush()?)
    }

    fn say_cut(&self, n: usize) {
        if n > 0 {
            let context = self.model.config().context_len;
            eprintln!(
                "warning: {n} of the texts are longer than the context of {context} tokens and were cut to it"
            );
        }
    }

    fn json_of(&self, report: &Confusion) -> Value {
        let labels: Vec<Value> = report
            .scores()
            .iter()
            .enumerate()
            .map(|(label, score)| {
                json!({ "label": self.name(label as u32), "precision": score.precision, "recall": score.recall,
                        "f1": score.f1, "support": score.support })
            })
            .collect();
        json!({ "texts": report.n_texts(), "accuracy": report.accuracy(), "macro_f1": report.macro_f1(),
                "labels": labels, "confusion": report.counts })
    }

    fn text_of(&self, report: &Confusion) -> String {
        let names: Vec<String> = (0..report.counts.len()).map(|label| self.name(label as u32)).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
        let mut text = format!(
            "{} texts, accuracy {:.4}, macro-F1 {:.4}\n{:<width$}  precision  recall      F1  support\n",
            report.n_texts(),
            report.accuracy(),
            report.macro_f1(),
            "label"
        );
        for (name, score) in names.iter().zip(report.scores()) {
            text += &format!(
                "{name:<width$}  {:>9.4}  {:>6.4}  {:>6.4}  {:>7}\n",
                score.precision, score.recall, score.f1, score.support
            );
        }
        text += "right label (row) by chosen label (column, in the same order)\n";
        for (name, row) in names.iter().zip(&report.counts) {
            let counts: String = row.iter().map(|count| format!(" {count:>6}")).collect();
            text += &format!("{name:<width$} {counts}\n");
        }
        text
    }
}

/// How the rows of a file are read: by its ending, with the columns that were named.
fn reading(args: &Args, path: &Path) -> DataConfig {
    let kind = DataKind::by_ending(&path.display().to_string()).unwrap_or(DataKind::Text);
    DataConfig {
        kind,
        document: DocumentConfig::Line,
        text_column: args.text_column.clone(),
        pair_column: args.pair_column.clone(),
        label_column: args.label_column.clone(),
        ..DataConfig::default()
    }
}
