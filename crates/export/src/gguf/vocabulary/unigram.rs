//! SentencePiece's unigram model, as in XLM-RoBERTa: pieces with their log-probabilities.
//!
//! The most likely sequence is chosen, after a table has normalized the letters.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use vulpes_data::gguf::{BLANK, CHARSMAP, TokenKind};

use super::{File, refusal, steps};
use crate::error::Result;
use crate::gguf::Keys;

/// The normalization of a text before it is split.
#[derive(Default)]
struct Before {
    /// The table of letters and their replacements.
    charsmap: Option<Vec<u8>>,
    /// Whether spaces at the ends are stripped, and several become one.
    joins_blanks: bool,
    /// Whether a space is put before the first word.
    puts_blank: bool,
}

/// The keys of a unigram tokenizer.
pub(super) fn keys(file: &File) -> Result<Keys> {
    let model = &file.json["model"];
    if model["byte_fallback"].as_bool().unwrap_or(false) {
        return Err(refusal("its unigram model falls back to bytes, but llama.cpp's does not".into()));
    }
    let before = before(file)?;
    let unknown = model["unk_id"].as_u64();
    let mut keys = file.tokens("t5", "default", |id, text, kind| {
        let kind = match kind {
            TokenKind::Normal | TokenKind::Control if unknown == Some(u64::from(id)) => TokenKind::Unknown,
            kind => kind,
        };
        (text.to_owned(), kind)
    });
    let pieces = model["vocab"].as_array().map(Vec::as_slice).unwrap_or_default();
    // llama.cpp's own converter gives ids without a piece this score.
    let score = |id: usize| pieces.get(id).and_then(|piece| piece[1].as_f64()).unwrap_or(-10_000.0);
    let scores = (0..file.n_ids).map(|id| Value::F32(score(id) as f32)).collect();
    keys.push(("tokenizer.ggml.scores".into(), Value::Array(scores)));
    keys.push(("tokenizer.ggml.add_space_prefix".into(), Value::Bool(before.puts_blank)));
    keys.push(("tokenizer.ggml.remove_extra_whitespaces".into(), Value::Bool(before.joins_blanks)));
    if let Some(table) = before.charsmap.filter(|table| !table.is_empty()) {
        let bytes = table.into_iter().map(Value::U8).collect();
        keys.push((CHARSMAP.into(), Value::Array(bytes)));
    }
    Ok(keys)
}

/// Reads the normalization steps.
fn before(file: &File) -> Result<Before> {
    let unknown =
        |step: &Json| refusal(format!("llama.cpp doesn't support this step before its unigrams: {step}"));
    let mut before = Before::default();
    for (at, step) in steps(&file.json["normalizer"], "normalizers").iter().enumerate() {
        match step["type"].as_str() {
            Some("Precompiled") if at == 0 => {
                let table = step["precompiled_charsmap"].as_str().unwrap_or_default();
                let table = BASE64_STANDARD.decode(table);
                before.charsmap =
                    Some(table.map_err(|error| refusal(format!("its table of letters: {error}")))?);
            }
            Some("Strip") => before.joins_blanks = true,
            Some("Replace") if step["pattern"]["Regex"] == " {2,}" => before.joins_blanks = true,
            _ => return Err(unknown(step)),
        }
    }
    let mut has_blanks = false;
    for step in steps(&file.json["pre_tokenizer"], "pretokenizers") {
        match step["type"].as_str() {
            Some("WhitespaceSplit") => before.joins_blanks = true,
            Some("Metaspace") if step["replacement"] == BLANK => {
                has_blanks = true;
                before.puts_blank = step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
            }
            _ => return Err(unknown(&step)),
        }
    }
    match has_blanks {
        true => Ok(before),
        false => Err(refusal(format!("spaces stay spaces in it, but llama.cpp's pieces have {BLANK}"))),
    }
}
