//! Defaults chosen from the corpus: model and tokenizer sizes, and the validation split.

use std::path::Path;

use serde::Deserialize;
use vulpes_data::{DataKind, ObjectiveKind, TokenizerKind};
use vulpes_model::config::Family;

use crate::config::RunConfig;
use crate::error::Result;
use crate::human::bytes;
use crate::run_folder::CONFIG;

/// The fraction of the corpus that is held out for validation.
const FRACTION: f64 = 0.1;

/// Below this many bytes nothing is held out: it would hardly fill a window.
const LEAST_TO_SPLIT: u64 = 20_000;

/// A model for corpora up to a number of bytes.
struct Size {
    up_to: u64,
    n_layer: usize,
    n_head: usize,
    d_model: usize,
    context_len: usize,
    dropout: f64,
}

/// From a page of text to a bookcase of it; beyond, GPT-2's size. A model has at most a few parameters per byte, so
/// that it can't simply memorize the text.
const SIZES: [Size; 4] = [
    Size { up_to: 20_000, n_layer: 2, n_head: 2, d_model: 32, context_len: 32, dropout: 0.1 },
    Size { up_to: 300_000, n_layer: 2, n_head: 4, d_model: 64, context_len: 64, dropout: 0.1 },
    Size { up_to: 5_000_000, n_layer: 4, n_head: 4, d_model: 128, context_len: 128, dropout: 0.1 },
    Size { up_to: 100_000_000, n_layer: 6, n_head: 6, d_model: 384, context_len: 256, dropout: 0.1 },
];

/// Fills in what `config` leaves open, by size and kind of its corpus; returns what was chosen and why.
///
/// A resumed run in `before` keeps what it chose when it began.
///
/// # Errors
/// Returns an error if the corpus can't be found.
pub(crate) fn fill_in(config: &mut RunConfig, before: Option<&Path>) -> Result<Vec<String>> {
    let unsaid = config.unsaid;
    if matches!(config.data.kind, DataKind::Ids | DataKind::Synthetic) {
        return Ok(Vec::new());
    }
    let is_new = config.train.is_from_scratch();
    if let Some(before) = before {
        keep(config, before);
        return Ok(Vec::new());
    }
    let n_bytes = config.data.training_bytes()?;
    let corpus = format!("data.train has {}", bytes(n_bytes));
    let mut told = Vec::new();
    if unsaid.tokenizer && is_new {
        let tokenizer = &mut config.data.tokenizer;
        let (kind, size) = match config.data.kind {
            // Words alone would lose the line breaks of a chat.
            DataKind::Chat if n_bytes <= 20_000 => (TokenizerKind::Char, None),
            _ => tokenizer_of(config.objective.kind(), n_bytes),
        };
        (tokenizer.kind, tokenizer.vocab_size) = (kind, size);
        let size = size
            .map_or("one token for each in the corpus".to_owned(), |size| format!("at most {size} tokens"));
        told.push(format!("[data.tokenizer] is not set and {corpus}: kind = \"{}\", {size}", kind.word()));
    }
    if unsaid.model
        && is_new
        && let Some(size) = SIZES.iter().find(|size| n_bytes <= size.up_to)
    {
        let encodes = config.objective.kind() != ObjectiveKind::NextToken;
        let family = if encodes { Family::Bert } else { Family::Gpt2 };
        let model = &mut config.model;
        model.family = Some(family);
        (model.n_layer, model.n_head) = (Some(size.n_layer), Some(size.n_head));
        (model.d_model, model.context_len) = (Some(size.d_model), Some(size.context_len));
        model.dropout = Some(size.dropout);
        told.push(format!(
            "[model] is not set and {corpus}: a small {} of n_layer = {}, n_head = {}, d_model = {}, context_len = \
             {}",
            if encodes { "\"bert\"" } else { "\"gpt2\"" },
            size.n_layer,
            size.n_head,
            size.d_model,
            size.context_len
        ));
    }
    if unsaid.validation {
        if n_bytes < LEAST_TO_SPLIT {
            told.push(format!(
                "{corpus}, too little to hold out a part: without data.validation nothing is evaluated"
            ));
        } else {
            config.data.validation_fraction = Some(FRACTION);
            told.push(format!(
                "data.validation is not set: {FRACTION} of data.train is held out \
                 (data.validation_fraction; 0 holds out nothing)"
            ));
        }
    }
    Ok(told)
}

/// Adopts what the run in `before` chose.
fn keep(config: &mut RunConfig, before: &Path) {
    let text = std::fs::read_to_string(before.join(CONFIG)).unwrap_or_default();
    let Some(chosen) = text.parse::<toml::Table>().ok().and_then(|table| RunConfig::deserialize(table).ok())
    else {
        return;
    };
    let is_new = config.train.is_from_scratch();
    if config.unsaid.tokenizer && is_new {
        config.data.tokenizer = chosen.data.tokenizer;
    }
    if config.unsaid.model && is_new {
        config.model = chosen.model;
    }
    if config.unsaid.validation {
        config.data.validation_fraction = chosen.data.validation_fraction;
    }
    if config.data.kind == DataKind::Chat && config.data.now.is_none() {
        config.data.now = chosen.data.now;
    }
}

/// The tokenizer for a corpus: words for a page, characters for a chapter, BPE beyond; WordPiece for an encoder.
fn tokenizer_of(objective: ObjectiveKind, n_bytes: u64) -> (TokenizerKind, Option<usize>) {
    let pieces = |n_bytes: u64| match n_bytes {
        0..=5_000_000 => 2048,
        5_000_001..=50_000_000 => 8192,
        _ => 16384,
    };
    match (objective, n_bytes) {
        (_, 0..=20_000) => (TokenizerKind::Word, None),
        (ObjectiveKind::NextToken, 20_001..=500_000) => (TokenizerKind::Char, None),
        (ObjectiveKind::NextToken, _) => (TokenizerKind::Bpe, Some(pieces(n_bytes))),
        (_, 20_001..=100_000) => (TokenizerKind::Word, None),
        (_, _) => (TokenizerKind::Wordpiece, Some(pieces(n_bytes))),
    }
}
