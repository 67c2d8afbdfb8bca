//! SentencePiece's unigram model, as XLM-RoBERTa has it: pieces with their log-probabilities, of which the likeliest
//! sequence is taken, after letters were brought to one form by a table.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;

use super::{BLANK, CONTROL, File, NORMAL, UNKNOWN, refusal, steps};
use crate::error::Result;
use crate::gguf::Keys;

/// What is done to a text before it is cut.
#[derive(Default)]
struct Before {
    /// The table of letters and what stands for them.
    charsmap: Option<Vec<u8>>,
    /// Whether blanks at the ends go, and several become one.
    joins_blanks: bool,
    /// Whether a blank comes before the first word.
    puts_blank: bool,
}

/// The keys of a unigram tokenizer.
pub(super) fn keys(file: &File) -> Result<Keys> {
    let model = &file.json["model"];
    if model["byte_fallback"].as_bool().unwrap_or(false) {
        return Err(refusal("its unigram model falls back to bytes, which llama.cpp's does not".into()));
    }
    let before = before(file)?;
    let unknown = model["unk_id"].as_u64();
    let mut keys = file.tokens("t5", "default", |id, text, kind| {
        let kind = match kind {
            NORMAL | CONTROL if unknown == Some(u64::from(id)) => UNKNOWN,
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
        keys.push(("tokenizer.ggml.precompiled_charsmap".into(), Value::Array(bytes)));
    }
    Ok(keys)
}

/// Reads the steps before the pieces.
fn before(file: &File) -> Result<Before> {
    let unknown = |step: &Json| refusal(format!("llama.cpp has no such step before its unigrams: {step}"));
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
        false => Err(refusal(format!("blanks stay blanks in it, where llama.cpp's pieces have {BLANK}"))),
    }
}
