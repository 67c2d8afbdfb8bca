//! Rows of token ids from other programs: one JSON object per line.

use serde::Deserialize;
use serde_json::Value;

use super::files::Source;
use super::json::fault;
use super::short;
use super::table::for_each_line;
use crate::error::{Error, Result};

/// One row of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdRow {
    pub(crate) ids: Vec<u32>,
    pub(crate) padding_mask: Option<Vec<u8>>,
    pub(crate) token_types: Option<Vec<u32>>,
    pub(crate) positions: Option<Vec<u32>>,
    pub(crate) labels: Labels,
}

/// The labels of a row of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    /// None given.
    None,
    /// One label per position.
    Places(Vec<i64>),
    /// One label for the row.
    Row(i64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    input_ids: Vec<u32>,
    attention_mask: Option<Vec<u8>>,
    token_type_ids: Option<Vec<u32>>,
    position_ids: Option<Vec<u32>>,
    labels: Option<Value>,
}

/// What a model can read of a row; `None` if not known yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum number of tokens of a row, and the config key that sets it.
    pub(crate) max_len: (usize, &'static str),
    /// The number of positions.
    pub(crate) n_positions: usize,
    pub(crate) vocab_size: Option<usize>,
    pub(crate) n_token_types: Option<usize>,
}

impl Limits {
    /// What of a row exceeds them.
    fn complaint(&self, line: &Line) -> Option<String> {
        let Self { max_len: (max_len, key), n_positions, vocab_size, n_token_types } = *self;
        let n = line.input_ids.len();
        if n > max_len {
            return Some(format!("input_ids has {n} ids, and {key} is {max_len}"));
        }
        let size = vocab_size.unwrap_or(usize::MAX);
        if let Some(id) = line.input_ids.iter().find(|&&id| id as usize >= size) {
            return Some(format!("id {id} is out of range: the vocabulary has {size}"));
        }
        // A model without token types reads rows whose types are all 0.
        let n_types = n_token_types.map_or(usize::MAX, |n| n.max(1));
        if let Some(id) = line.token_type_ids.iter().flatten().find(|&&id| id as usize >= n_types) {
            return Some(match n_token_types {
                Some(0) => format!("token_type_ids has a {id}, and this model has no token types"),
                _ => format!("token_type_ids has a {id}, and the model has {n_types} types, from 0"),
            });
        }
        let place = line.position_ids.iter().flatten().find(|&&place| place as usize >= n_positions)?;
        Some(format!("position_ids has a {place}, and model.context_len is {n_positions}"))
    }
}

/// The rows of a file, checked for consistent lengths and against what the model can read.
pub(crate) fn read_ids(source: &Source, limits: &Limits) -> Result<Vec<IdRow>> {
    let mut rows = Vec::new();
    for_each_line(source, &mut |line, number, _| {
        let bad = |message: String| Error::row(&source.path, number, message);
        let line: Line = serde_json::from_str(line).map_err(|error| {
            let fault = fault(&error, line);
            bad(format!(
                "{fault}; wanted {{\"input_ids\": [...]}} and optionally attention_mask, \
                 token_type_ids, position_ids, labels"
            ))
        })?;
        let n = line.input_ids.len();
        if n == 0 {
            return Err(bad("input_ids is empty".into()));
        }
        if let Some(complaint) = limits.complaint(&line) {
            return Err(bad(complaint));
        }
        let labels = labels(line.labels).map_err(&bad)?;
        let n_labels = match &labels {
            Labels::Places(labels) => Some(labels.len()),
            _ => None,
        };
        let lengths = [
            ("attention_mask", line.attention_mask.as_ref().map(Vec::len)),
            ("token_type_ids", line.token_type_ids.as_ref().map(Vec::len)),
            ("position_ids", line.position_ids.as_ref().map(Vec::len)),
            ("labels", n_labels),
        ];
        for (name, len) in lengths {
            if len.is_some_and(|len| len != n) {
                return Err(bad(format!("{name} has {} values, and input_ids has {n}", len.unwrap_or(0))));
            }
        }
        if line.attention_mask.iter().flatten().any(|&padding_mask| padding_mask > 1) {
            return Err(bad("attention_mask has a value other than 0 and 1".into()));
        }
        rows.push(IdRow {
            ids: line.input_ids,
            padding_mask: line.attention_mask,
            token_types: line.token_type_ids,
            positions: line.position_ids,
            labels,
        });
        Ok(())
    })?;
    Ok(rows)
}

fn labels(value: Option<Value>) -> std::result::Result<Labels, String> {
    let wrong = |value: &Value| format!("labels is {}; wanted an integer, or one per position", short(value));
    match value {
        None | Some(Value::Null) => Ok(Labels::None),
        Some(Value::Array(values)) => {
            let labels: Option<Vec<i64>> = values.iter().map(Value::as_i64).collect();
            labels.map(Labels::Places).ok_or_else(|| wrong(&Value::Array(values)))
        }
        Some(other) => other.as_i64().map(Labels::Row).ok_or_else(|| wrong(&other)),
    }
}
