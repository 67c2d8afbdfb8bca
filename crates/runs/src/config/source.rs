//! The sources of a config: the file and the `--set` overrides, merged into one tree with spans.
//!
//! Every override is parsed as a small TOML document that starts where the previous text ends: one offset identifies
//! both the text and the location in it. Overrides replace the file's values in the tree.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::aliases::rename;
use super::fault::{Fault, Place};

/// The maximum number of syntax errors reported: later ones mostly follow from the first.
const MOST_SYNTAX: usize = 3;

/// One text: its origin, and its content after as many blanks as there is text before it.
pub(super) struct Text {
    pub(super) path: String,
    padded: String,
    start: usize,
}

impl Text {
    /// The original text.
    pub(super) fn as_str(&self) -> &str {
        &self.padded[self.start..]
    }
}

/// The file's text first, then each override's.
pub(super) struct Texts(Vec<Text>);

impl Texts {
    /// Gathers the texts; an override that is not of the form `section.key=VALUE` is a fault.
    pub(super) fn gather(path: &str, text: &str, overrides: &[String], faults: &mut Vec<Fault>) -> Self {
        let mut texts = Self(Vec::new());
        texts.push(path, text);
        for item in overrides {
            match override_text(item) {
                Ok(text) => texts.push("--set", &text),
                Err(fault) => faults.push(fault),
            }
        }
        texts
    }

    fn push(&mut self, path: &str, text: &str) {
        let start = self.0.last().map_or(0, |last| last.padded.len() + 1);
        let padded = " ".repeat(start) + text;
        self.0.push(Text { path: path.to_owned(), padded, start });
    }

    /// The texts in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Text> {
        self.0.iter()
    }

    /// The index of the text that contains `span`, and the span within it.
    pub(super) fn locate(&self, span: &Range<usize>) -> Option<(usize, Range<usize>)> {
        let number = self.0.iter().rposition(|text| text.start <= span.start)?;
        let text = &self.0[number];
        let at = |offset: usize| (offset - text.start).min(text.as_str().len());
        Some((number, at(span.start)..at(span.end.max(span.start))))
    }
}

/// The values of all texts as one tree.
pub(super) struct Source<'a> {
    pub(super) tree: DeTable<'a>,
}

impl<'a> Source<'a> {
    /// Parses the file and applies the overrides; every syntax error is a fault.
    pub(super) fn parse(texts: &'a Texts, faults: &mut Vec<Fault>) -> Self {
        let mut tree = DeTable::new();
        for text in &texts.0 {
            let (layer, errors) = DeTable::parse_recoverable(&text.padded);
            let n_more = errors.len().saturating_sub(MOST_SYNTAX);
            faults.extend(errors.into_iter().take(MOST_SYNTAX).enumerate().map(|(number, error)| {
                let fault = Fault::new(format!("not valid TOML: {}", error.message()))
                    .at(error.span().map(|span| Place::span(span, "")));
                match n_more > 0 && number + 1 == MOST_SYNTAX {
                    true => {
                        fault.help(format!("{n_more} more such errors follow: is {} a config?", text.path))
                    }
                    false => fault,
                }
            }));
            let mut layer = layer.into_inner();
            rename(&mut layer, faults);
            merge(&mut tree, layer);
        }
        Self { tree }
    }

    /// Whether there is a value, or anything in a section, at a dotted `path`.
    pub(super) fn says(&self, path: &str) -> bool {
        let mut table = &self.tree;
        for part in path.split('.') {
            match table.get(part).map(Spanned::get_ref) {
                Some(DeValue::Table(inner)) => table = inner,
                found => return found.is_some(),
            }
        }
        !table.is_empty()
    }

    /// The span of the value at a dotted `path`, or of the nearest value that encloses it.
    pub(super) fn span(&self, path: &str) -> Option<Range<usize>> {
        let mut table = &self.tree;
        let mut span = None;
        for part in path.split('.') {
            let Some(value) = table.get(part) else { break };
            span = Some(value.span());
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        span
    }
}

/// The TOML text of an override `section.key=VALUE`; a VALUE that is not a TOML value is taken as a string.
fn override_text(item: &str) -> Result<String, Fault> {
    let wanted = || {
        Fault::new(format!("`--set {item}` is not of the form section.key=VALUE"))
            .help("for example: --set train.steps=100")
    };
    let (key, value) = item.split_once('=').ok_or_else(wanted)?;
    let (key, value) = (key.trim(), value.trim());
    let is_word =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if key.split('.').count() < 2 || !key.split('.').all(is_word) {
        return Err(wanted());
    }
    let line = format!("{key} = {value}");
    // A line break would let one override set several keys.
    if !value.contains('\n') && DeTable::parse(&line).is_ok() {
        return Ok(line);
    }
    Ok(format!("{key} = {}", toml::Value::String(value.to_owned())))
}

/// Merges `over` into `under`: tables are merged, other values replaced.
fn merge<'a>(under: &mut DeTable<'a>, over: DeTable<'a>) {
    for (key, value) in over {
        let span = value.span();
        match (under.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(inner)), DeValue::Table(value)) => merge(inner, value),
            (_, value) => {
                // The key is replaced too: its span shows where the effective value was set.
                under.remove(key.get_ref().as_ref());
                under.insert(key, Spanned::new(span, value));
            }
        }
    }
}
