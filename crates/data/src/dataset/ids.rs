//! Opens rows of ids: reads the files and checks their labels against the objective.

use super::rows::{Rows, id_row};
use super::sets::{OpenOptions, Sets};
use crate::batch::IGNORED;
use crate::config::{DataConfig, ObjectiveConfig, ObjectiveKind, TokenizerKind};
use crate::corpus::{IdRow, Labels, Limits, Sources, read_ids};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

pub(super) fn open(
    data: &DataConfig,
    objective: &ObjectiveConfig,
    options: &OpenOptions<'_>,
) -> Result<Sets> {
    let tokenizer = match (options.tokenizer, data.tokenizer.kind) {
        (Some(tokenizer), _) => Some(tokenizer.clone().with_config(&data.tokenizer)?),
        (None, TokenizerKind::File) => Some(Tokenizer::of(&data.tokenizer)?),
        (None, _) => None,
    };
    let known = options.vocab_size.or_else(|| tokenizer.as_ref().map(Tokenizer::vocab_size));
    let n_positions = options.n_positions.unwrap_or(options.context_len);
    let is_shorter = options.context_len < n_positions;
    let limits = Limits {
        max_len: (options.context_len, if is_shorter { options.len_key } else { "model.context_len" }),
        n_positions,
        vocab_size: known,
        n_token_types: options.n_token_types,
    };
    let asked = objective.kind();
    let rows = |key: &str, paths| -> Result<Vec<IdRow>> {
        let sources = Sources::find(key, paths)?;
        let mut rows = Vec::new();
        for source in &sources.files {
            for (number, row) in read_ids(source, &limits)?.into_iter().enumerate() {
                fits(&row, asked, known).map_err(|message| Error::Row {
                    path: source.path.clone(),
                    line: number as u64 + 1,
                    message,
                })?;
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return Err(Error::Empty { what: sources.what });
        }
        // Masking chooses its targets later.
        let may_mask =
            asked == ObjectiveKind::MaskedToken && rows.iter().any(|row| row.labels == Labels::None);
        if !may_mask
            && !rows.iter().any(|row| id_row(row, asked).targets.iter().any(|&target| target != IGNORED))
        {
            return Err(Error::config(key, "no row has a target: nothing can be learned or measured"));
        }
        Ok(rows)
    };
    let train = rows("data.train", &data.train)?;
    let validation =
        (!data.validation.is_empty()).then(|| rows("data.validation", &data.validation)).transpose()?;
    let greatest = train.iter().chain(validation.iter().flatten()).flat_map(|row| &row.ids).max();
    let label = |row: &IdRow| match row.labels {
        Labels::Row(label) => usize::try_from(label).map_or(0, |label| label + 1),
        _ => 0,
    };
    let n_found = train.iter().map(label).max().unwrap_or(0);
    let labels = if n_found <= options.labels.len() { options.labels.to_vec() } else { vec![] };
    let n_labels = n_found.max(labels.len());
    if n_labels == 1 && asked == ObjectiveKind::Classify {
        let message = "has one label only, 0; classification needs two or more";
        return Err(Error::config("data.train", message));
    }
    if let Some(label) = validation.iter().flatten().map(label).find(|&label| label > n_labels) {
        let message = format!("label {} does not occur in data.train", label - 1);
        return Err(Error::config("data.validation", message));
    }
    Ok(Sets {
        vocab_size: known.unwrap_or(greatest.map_or(0, |&id| id as usize + 1)),
        train: Rows::Ids { rows: train, objective: asked },
        validation: validation.map(|rows| Rows::Ids { rows, objective: asked }),
        labels,
        n_labels,
        tokenizer,
        warnings: vec![],
        template: None,
    })
}

/// Checks that a row's labels fit the objective, and the vocabulary if it is known.
fn fits(row: &IdRow, objective: ObjectiveKind, vocab_size: Option<usize>) -> std::result::Result<(), String> {
    match (objective, &row.labels) {
        (ObjectiveKind::Classify, Labels::Row(label)) if *label >= 0 || *label == IGNORED => Ok(()),
        (ObjectiveKind::Classify, _) => {
            Err("labels is missing; classification needs one integer from 0".into())
        }
        (_, Labels::Row(_)) => Err("labels is one number; this objective needs one per position".into()),
        (_, Labels::Places(labels)) => {
            let size = vocab_size.map_or(i64::MAX, |size| size as i64);
            match labels.iter().find(|&&label| label != IGNORED && !(0..size).contains(&label)) {
                Some(label) => {
                    Err(format!("label {label} is not an id of the vocabulary, nor {IGNORED} for none"))
                }
                None => Ok(()),
            }
        }
        (_, Labels::None) => Ok(()),
    }
}
