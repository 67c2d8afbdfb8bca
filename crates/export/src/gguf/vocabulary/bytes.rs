//! Byte-level BPE, as in GPT-2: tokens in GPT-2's letters for bytes, merges, and the splitter's name.

use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use vulpes_data::gguf;

use super::{File, refusal};
use crate::error::Result;
use crate::gguf::Keys;

/// The keys of a byte-level BPE.
pub(super) fn keys(file: &File, notes: &mut Vec<String>) -> Result<Keys> {
    let model = &file.json["model"];
    let merges = file.merges()?;
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|affix| !affix.is_empty()) {
            return Err(refusal(format!("its {key} is {}, but llama.cpp has none", model[key])));
        }
    }
    match file.json["normalizer"]["type"].as_str() {
        None => {}
        Some("NFC") => notes.push("unlike the tokenizer, llama.cpp doesn't normalize texts to NFC".into()),
        Some(other) => {
            return Err(refusal(format!(
                "its normalizer is {other}, but llama.cpp has none for byte-level BPE"
            )));
        }
    }
    let splitter = splitter(&file.json["pre_tokenizer"], model["ignore_merges"] == true)?;
    let mut keys = file.tokens("gpt2", splitter, |_, text, kind| (text.to_owned(), kind));
    let merges = merges.iter().map(|(left, right)| Value::String(format!("{left} {right}"))).collect();
    keys.push((gguf::MERGES.into(), Value::Array(merges)));
    Ok(keys)
}

/// llama.cpp's name of the splitter of a `tokenizer.json`.
fn splitter(json: &Json, whole_words_first: bool) -> Result<&'static str> {
    let steps: Vec<&Json> = match json["type"].as_str() {
        Some("Sequence") => json["pretokenizers"].as_array().into_iter().flatten().collect(),
        Some(_) => vec![json],
        None => Vec::new(),
    };
    let unknown = || {
        let said: Vec<String> = steps.iter().map(ToString::to_string).collect();
        refusal(format!(
            "llama.cpp has no name for its splitter: {}",
            if said.is_empty() { "none".to_owned() } else { said.join(" and ") }
        ))
    };
    let Some((last, before)) = steps.split_last() else { return Err(unknown()) };
    if last["type"] != "ByteLevel" {
        return Err(unknown());
    }
    if last["add_prefix_space"] != false {
        return Err(refusal("it puts a space before a text, but llama.cpp's byte-level BPE doesn't".into()));
    }
    let by_gpt2 = last["use_regex"] != false;
    let (pattern, digits) = match before {
        [] if by_gpt2 => (None, false),
        [digits] if by_gpt2 && digits["type"] == "Digits" && digits["individual_digits"] == true => {
            (None, true)
        }
        [split]
            if !by_gpt2
                && split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] != true =>
        {
            (split["pattern"]["Regex"].as_str(), false)
        }
        _ => return Err(unknown()),
    };
    let is_it = |one: &&gguf::Splitter| {
        let own = (one.pattern, one.digits, one.whole_words_first);
        own == (pattern, digits, whole_words_first) && pattern.is_none() == by_gpt2
    };
    gguf::SPLITTERS.iter().find(is_it).map(|one| one.name).ok_or_else(unknown)
}
