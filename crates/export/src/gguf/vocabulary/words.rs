//! WordPiece, as in BERT: llama.cpp marks the pieces that begin a word instead of those that continue one.

use candle_core::quantized::gguf_file::Value;
use serde_json::json;
use vulpes_data::gguf::{BLANK, TokenKind};

use super::{File, refusal};
use crate::error::Result;
use crate::gguf::Keys;

/// The keys of a WordPiece tokenizer.
pub(super) fn keys(file: &File) -> Result<Keys> {
    let (model, normalizer) = (&file.json["model"], &file.json["normalizer"]);
    if model["continuing_subword_prefix"] != "##" {
        let prefix = &model["continuing_subword_prefix"];
        return Err(refusal(format!("pieces that continue a word begin with {prefix}, not with \"##\"")));
    }
    let splitter = &file.json["pre_tokenizer"];
    if normalizer["type"] != "BertNormalizer" || splitter["type"] != "BertPreTokenizer" {
        return Err(refusal(format!(
            "it has {normalizer} and {splitter} before its pieces, not BertNormalizer and BertPreTokenizer"
        )));
    }
    if normalizer["handle_chinese_chars"] == json!(false) || normalizer["clean_text"] == json!(false) {
        return Err(refusal(format!("llama.cpp doesn't support this normalizer: {normalizer}")));
    }
    let lowercase = normalizer["lowercase"].as_bool().unwrap_or(true);
    // By default accents are stripped if capitals are lowered.
    let strips = normalizer["strip_accents"].as_bool().unwrap_or(lowercase);
    let mut keys = file.tokens("bert", "default", |_, text, kind| {
        let spelled = match (kind, text.strip_prefix("##")) {
            (TokenKind::Control, _) => text.to_owned(),
            (_, Some(rest)) => rest.to_owned(),
            (_, None) => format!("{BLANK}{text}"),
        };
        (spelled, kind)
    });
    keys.push(("tokenizer.ggml.normalizer.lowercase".into(), Value::Bool(lowercase)));
    keys.push(("tokenizer.ggml.normalizer.strip_accents".into(), Value::Bool(strips)));
    Ok(keys)
}
