//! Byte-level BPE, as GPT-2 has it: tokens spelled in GPT-2's letters for bytes, merges, and the name of how a text is cut
//! into words.

use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;

use super::{File, refusal};
use crate::error::Result;
use crate::gguf::Keys;

/// How Llama 3 cuts a text into words, and GPT-4 before it.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 does: one digit at a time.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The keys of a byte-level BPE.
pub(super) fn keys(file: &File, notes: &mut Vec<String>) -> Result<Keys> {
    let model = &file.json["model"];
    let merges = file.merges()?;
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|affix| !affix.is_empty()) {
            return Err(refusal(format!("its {key} is {}, where llama.cpp has none", model[key])));
        }
    }
    match file.json["normalizer"]["type"].as_str() {
        None => {}
        Some("NFC") => {
            notes.push("llama.cpp doesn't bring texts to the form NFC, as the tokenizer does".into())
        }
        Some(other) => {
            return Err(refusal(format!(
                "its normalizer is {other}, where llama.cpp has none for byte-level BPE"
            )));
        }
    }
    let splitter = splitter(&file.json["pre_tokenizer"], model["ignore_merges"] == true)?;
    let mut keys = file.tokens("gpt2", splitter, |_, text, kind| (text.to_owned(), kind));
    let merges = merges.iter().map(|(left, right)| Value::String(format!("{left} {right}"))).collect();
    keys.push(("tokenizer.ggml.merges".into(), Value::Array(merges)));
    Ok(keys)
}

/// llama.cpp's name of how a `tokenizer.json` cuts a text into words.
fn splitter(json: &Json, whole_words_first: bool) -> Result<&'static str> {
    let steps: Vec<&Json> = match json["type"].as_str() {
        Some("Sequence") => json["pretokenizers"].as_array().into_iter().flatten().collect(),
        Some(_) => vec![json],
        None => Vec::new(),
    };
    let unknown = || {
        let said: Vec<String> = steps.iter().map(ToString::to_string).collect();
        refusal(format!(
            "llama.cpp has no name for how it cuts a text into words, {}",
            if said.is_empty() { "not at all".to_owned() } else { said.join(" and ") }
        ))
    };
    let Some((last, before)) = steps.split_last() else { return Err(unknown()) };
    if last["type"] != "ByteLevel" {
        return Err(unknown());
    }
    if last["add_prefix_space"] != false {
        return Err(refusal(
            "it puts a blank before a text, where llama.cpp's byte-level BPE doesn't".into(),
        ));
    }
    let by_gpt2 = last["use_regex"] != false;
    match (before, by_gpt2, whole_words_first) {
        ([], true, false) => Ok("gpt-2"),
        ([digits], true, false) if digits["type"] == "Digits" && digits["individual_digits"] == true => {
            Ok("smollm")
        }
        ([split], false, _)
            if split["type"] == "Split" && split["behavior"] == "Isolated" && split["invert"] != true =>
        {
            match (split["pattern"]["Regex"].as_str(), whole_words_first) {
                (Some(LLAMA_3), true) => Ok("llama-bpe"),
                (Some(LLAMA_3), false) => Ok("dbrx"),
                (Some(QWEN_2), false) => Ok("qwen2"),
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}
