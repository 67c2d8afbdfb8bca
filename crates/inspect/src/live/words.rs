//! Encodes the tokenizer for a page: compact vocabulary and merges, the rest as in `tokenizer.json`.

use std::collections::HashMap;

use serde_json::{Value, json};
use vulpes_data::Tokenizer;

use crate::error::Error;
use crate::pack::base64;

/// The parts that the page's script supports.
const NORMALIZERS: [&str; 6] = ["BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD"];
const SPLITTERS: [&str; 5] =
    ["Whitespace", "WhitespaceSplit", "Punctuation", "ByteLevel", "BertPreTokenizer"];
const DECODERS: [&str; 4] = ["ByteLevel", "WordPiece", "Fuse", "Replace"];

/// The tokenizer for the page, or the part that the page's script doesn't support.
pub(super) fn of(tokenizer: &Tokenizer) -> Result<Result<Value, String>, Error> {
    let json: Value = serde_json::from_str(tokenizer.to_json()).unwrap_or_default();
    let unknown = unknown_part(&json);
    if let Some(part) = unknown {
        return Ok(Err(part));
    }
    let before = tokenizer.opening();
    let after = tokenizer.encode_framed("", None, None)?.0;
    let model = &json["model"];
    let tokens: Vec<Option<String>> =
        (0..tokenizer.vocab_size() as u32).map(|id| tokenizer.id_to_token(id)).collect();
    Ok(Ok(json!({
        "kind": model["type"],
        "tokens": tokens,
        "known": known(model, &tokens),
        "merges": merges(model).map(|merges| base64(&merges)),
        "model_unk": model["unk_token"].as_str().and_then(|token| tokenizer.token_to_id(token)),
        "prefix": model["continuing_subword_prefix"],
        "longest": model["max_input_chars_per_word"],
        "added": json["added_tokens"],
        "normalizer": json["normalizer"],
        "pre_tokenizer": json["pre_tokenizer"],
        "decoder": json["decoder"],
        "after": after.get(before.len()..).unwrap_or_default(),
        "before": before,
        "unk": tokenizer.unk_id(),
        "pad": tokenizer.pad_id(),
        "mask": tokenizer.mask_id(),
        "eos": tokenizer.eos_id(),
        "start": tokenizer.start_id(),
    })))
}

/// The ids in the model's own vocabulary, if that is not all: an added token is not a word of it.
fn known(model: &Value, tokens: &[Option<String>]) -> Option<Vec<usize>> {
    let vocabulary = model["vocab"].as_object()?;
    let is_known =
        |token: &Option<String>| token.as_ref().is_some_and(|token| vocabulary.contains_key(token));
    let ids: Vec<usize> = (0..tokens.len()).filter(|&id| is_known(&tokens[id])).collect();
    (ids.len() < tokens.len()).then_some(ids)
}

/// The merged pairs, in order, as 32-bit ids; `None` if there are none.
fn merges(model: &Value) -> Option<Vec<u8>> {
    let vocabulary: HashMap<&str, u32> = model["vocab"]
        .as_object()?
        .iter()
        .filter_map(|(token, id)| Some((token.as_str(), u32::try_from(id.as_u64()?).ok()?)))
        .collect();
    let pair = |merge: &Value| -> Option<[u32; 2]> {
        let (a, b) = match merge.as_str() {
            Some(both) => both.split_once(' ')?,
            None => (merge[0].as_str()?, merge[1].as_str()?),
        };
        Some([*vocabulary.get(a)?, *vocabulary.get(b)?])
    };
    let pairs = model["merges"].as_array()?.iter().filter_map(pair);
    Some(pairs.flatten().flat_map(u32::to_le_bytes).collect())
}

/// The first part of a `tokenizer.json` that the page's script doesn't support.
fn unknown_part(json: &Value) -> Option<String> {
    let model = &json["model"];
    let kind = model["type"].as_str().unwrap_or("?");
    let odd_bpe = kind == "BPE"
        && (["byte_fallback", "fuse_unk", "ignore_merges"].iter().any(|key| model[*key] == true)
            || ["continuing_subword_prefix", "end_of_word_suffix"]
                .iter()
                .any(|key| model[*key].as_str().is_some_and(|text| !text.is_empty())));
    if !["WordLevel", "BPE", "WordPiece"].contains(&kind) || odd_bpe {
        return Some(format!("the model {kind}{}", if odd_bpe { " in this form" } else { "" }));
    }
    let added = json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_normal = json["normalizer"].is_null();
    if let Some(token) =
        added.iter().find(|token| token["single_word"] == true || token["normalized"] == true && !is_normal)
    {
        return Some(format!("the added token {}", token["content"]));
    }
    let parts = |value: &Value, list: &str| -> Vec<Value> {
        match value[list].as_array() {
            Some(inner) if value["type"] == "Sequence" => inner.clone(),
            _ if value.is_null() => Vec::new(),
            _ => vec![value.clone()],
        }
    };
    let is_odd = |known: &[&str], part: &Value| {
        let kind = part["type"].as_str().unwrap_or("?");
        let odd = kind == "Punctuation" && part["behavior"] != "Isolated"
            || kind == "Replace" && part["pattern"]["String"].as_str().is_none();
        (odd || !known.contains(&kind)).then(|| kind.to_owned())
    };
    let normalizers = parts(&json["normalizer"], "normalizers");
    let splitters = parts(&json["pre_tokenizer"], "pretokenizers");
    let decoders = parts(&json["decoder"], "decoders");
    let odd = normalizers.iter().find_map(|part| is_odd(&NORMALIZERS, part).map(|kind| ("normalizer", kind)));
    let odd = odd.or_else(|| {
        splitters.iter().find_map(|part| is_odd(&SPLITTERS, part).map(|kind| ("pre-tokenizer", kind)))
    });
    let odd = odd
        .or_else(|| decoders.iter().find_map(|part| is_odd(&DECODERS, part).map(|kind| ("decoder", kind))));
    odd.map(|(what, kind)| format!("the {what} {kind}"))
}
