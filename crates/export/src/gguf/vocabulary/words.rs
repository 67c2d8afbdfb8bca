//! WordPiece, as BERT has it: llama.cpp marks the pieces that begin a word, and not those that go on with one.

use candle_core::quantized::gguf_file::Value;
use serde_json::json;

use super::{CONTROL, File, refusal};
use crate::error::Result;
use crate::gguf::Keys;

/// The keys of a WordPiece tokenizer.
pub(super) fn keys(file: &File) -> Result<Keys> {
    let (model, normalizer) = (&file.json["model"], &file.json["normalizer"]);
    if model["continuing_subword_prefix"] != "##" {
        let prefix = &model["continuing_subword_prefix"];
        return Err(refusal(format!(
            "pieces that go on with a word begin with {prefix}, where \"##\" is wanted"
        )));
    }
    let splitter = &file.json["pre_tokenizer"];
    if normalizer["type"] != "BertNormalizer" || splitter["type"] != "BertPreTokenizer" {
        return Err(refusal(format!(
            "it has {normalizer} and {splitter} before its pieces, where BertNormalizer and BertPreTokenizer are wanted"
        )));
    }
    if normalizer["handle_chinese_chars"] == json!(false) || normalizer["clean_text"] == json!(false) {
        return Err(refusal(format!("llama.cpp has no such normalizer: {normalizer}")));
    }
    let lowercase = normalizer["lowercase"].as_bool().unwrap_or(true);
    // Where nothing is said of accents, they go with the capitals.
    let strips = normalizer["strip_accents"].as_bool().unwrap_or(lowercase);
    let mut keys = file.tokens("bert", "default", |_, text, kind| {
        let spelled = match (kind, text.strip_prefix("##")) {
            (CONTROL, _) => text.to_owned(),
            (_, Some(rest)) => rest.to_owned(),
            (_, None) => format!("\u{2581}{text}"),
        };
        (spelled, kind)
    });
    keys.push(("tokenizer.ggml.normalizer.lowercase".into(), Value::Bool(lowercase)));
    keys.push(("tokenizer.ggml.normalizer.strip_accents".into(), Value::Bool(strips)));
    Ok(keys)
}
