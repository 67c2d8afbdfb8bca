//! A tokenizer as the keys of a GGUF file: its tokens with their kinds, and how llama.cpp is to cut texts.
//!
//! llama.cpp has its own code for each kind of tokenizer and reads no `tokenizer.json`; so what a file of ours says is
//! taken apart, and what llama.cpp would do otherwise is refused, or noted.

mod bytes;
mod letters;
mod pieces;
mod unigram;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use vulpes_data::Tokenizer;
use vulpes_model::ModelConfig;

use super::Keys;
use crate::error::{Error, Result};

/// `llama_token_type` of llama.h.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// What stands for a blank in SentencePiece's pieces.
const BLANK: &str = "\u{2581}";

/// A tokenizer taken apart.
struct File<'a> {
    tokenizer: &'a Tokenizer,
    /// Its `tokenizer.json`.
    json: Json,
    /// Each added token's id, and whether it is special.
    added: BTreeMap<u32, bool>,
    /// Rows of the model's embedding.
    n_ids: usize,
}

/// The keys of a file without a tokenizer.
pub(super) fn none() -> Keys {
    vec![("tokenizer.ggml.model".into(), Value::String("none".into()))]
}

/// The keys of a tokenizer; what llama.cpp does otherwise goes to `notes`.
///
/// # Errors
/// [`Error::Tokenizer`] if GGUF has no form for it.
pub(super) fn keys(
    tokenizer: &Tokenizer,
    config: &ModelConfig,
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<Keys> {
    let json: Json = serde_json::from_str(tokenizer.to_json())
        .map_err(|error| refusal(format!("its tokenizer.json can't be read: {error}")))?;
    let entry = |token: &Json| {
        let id = u32::try_from(token["id"].as_u64()?).ok()?;
        Some((id, token["special"].as_bool().unwrap_or(false)))
    };
    let added = json["added_tokens"].as_array().into_iter().flatten().filter_map(entry).collect();
    if tokenizer.vocab_size() > config.vocab_size {
        let (n, rows) = (tokenizer.vocab_size(), config.vocab_size);
        return Err(refusal(format!("it has {n} ids, the model {rows} rows: they don't belong together")));
    }
    let file = File { tokenizer, json, added, n_ids: config.vocab_size };
    let model = &file.json["model"];
    let falls_back = model["byte_fallback"].as_bool().unwrap_or(false);
    let mut keys = match model["type"].as_str() {
        Some("WordPiece") => words::keys(&file)?,
        Some("Unigram") => unigram::keys(&file)?,
        Some("BPE") if falls_back => pieces::keys(&file, notes)?,
        Some("BPE") if model["merges"].as_array().is_none_or(Vec::is_empty) => letters::keys(&file, notes)?,
        Some("BPE") => bytes::keys(&file, notes)?,
        Some("WordLevel") => {
            return Err(refusal(
                "it knows whole words only (WordLevel), where llama.cpp has byte-level BPE, SentencePiece's BPE and \
                 unigrams, and WordPiece; a run with data.tokenizer.kind = \"bpe\" has one that goes there"
                    .into(),
            ));
        }
        other => {
            return Err(refusal(format!(
                "it is {}, where byte-level BPE, SentencePiece's BPE and unigrams, and WordPiece are written",
                other.unwrap_or("of no known kind")
            )));
        }
    };
    keys.extend(ends(&file)?);
    if let Some(template) = chat_template(folder) {
        keys.push(("tokenizer.chat_template".into(), Value::String(template)));
    }
    Ok(keys)
}

fn refusal(reason: String) -> Error {
    Error::Tokenizer { reason }
}

impl File<'_> {
    /// The keys of the tokens: what the model is called, how texts are cut, the tokens as `spelled`, and their kinds.
    fn tokens(&self, model: &str, splitter: &str, spelled: impl Fn(u32, &str, i32) -> (String, i32)) -> Keys {
        let (mut texts, mut kinds) = (Vec::with_capacity(self.n_ids), Vec::with_capacity(self.n_ids));
        for id in 0..self.n_ids as u32 {
            let (text, kind) = match self.tokenizer.id_to_token(id) {
                None => (format!("[PAD{id}]"), UNUSED),
                Some(text) => {
                    let kind = match self.added.get(&id) {
                        Some(true) => CONTROL,
                        Some(false) => USER_DEFINED,
                        None => NORMAL,
                    };
                    spelled(id, &text, kind)
                }
            };
            texts.push(Value::String(text));
            kinds.push(Value::I32(kind));
        }
        vec![
            ("tokenizer.ggml.model".into(), Value::String(model.into())),
            ("tokenizer.ggml.pre".into(), Value::String(splitter.into())),
            ("tokenizer.ggml.tokens".into(), Value::Array(texts)),
            ("tokenizer.ggml.token_type".into(), Value::Array(kinds)),
        ]
    }

    /// The merges, each a pair, in their order.
    fn merges(&self) -> Result<Vec<(&str, &str)>> {
        let merges = self.json["model"]["merges"].as_array().into_iter().flatten();
        merges.map(|merge| pair(merge).ok_or_else(|| refusal("its merges are no pairs".into()))).collect()
    }
}

/// The steps of a normalizer or pre-tokenizer, one after the other.
fn steps(json: &Json, list: &str) -> Vec<Json> {
    match json["type"].as_str() {
        Some("Sequence") => json[list].as_array().cloned().unwrap_or_default(),
        Some(_) => vec![json.clone()],
        None => Vec::new(),
    }
}

/// The two pieces that a merge joins.
fn pair(merge: &Json) -> Option<(&str, &str)> {
    match merge {
        Json::String(text) => text.split_once(' '),
        Json::Array(pair) => Some((pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    }
}

/// What opens and ends a text, the other tokens with a task, and what llama.cpp is to put about a text.
fn ends(file: &File) -> Result<Keys> {
    let tokenizer = file.tokenizer;
    let opening = tokenizer.opening();
    let framed = tokenizer.encode_framed("", None, None)?.0;
    let closing = framed.get(opening.len()..).unwrap_or_default();
    if opening.len() > 1 || closing.len() > 1 {
        let (n_before, n_after) = (opening.len(), closing.len());
        return Err(refusal(format!(
            "it puts {n_before} tokens before a text and {n_after} after it, where llama.cpp puts one at most"
        )));
    }
    let (opening, closing) = (opening.first().copied(), closing.first().copied());
    let kind = &file.json["model"]["type"];
    let has_words = kind == "WordPiece" || kind == "Unigram";
    let mut keys = Keys::new();
    let mut say = |key: &str, id: Option<u32>| {
        if let Some(id) = id {
            keys.push((format!("tokenizer.ggml.{key}_token_id"), Value::U32(id)));
        }
    };
    say("bos", opening.or(tokenizer.start_id()));
    say("eos", closing.or(tokenizer.eos_id()));
    say("unknown", tokenizer.unk_id());
    say("padding", tokenizer.pad_id());
    say("mask", tokenizer.mask_id());
    if has_words {
        // (llama.cpp's own spelling.)
        say("seperator", closing);
        say("cls", opening);
    }
    for (key, puts) in [("bos", opening.is_some()), ("eos", closing.is_some()), ("sep", false)] {
        keys.push((format!("tokenizer.ggml.add_{key}_token"), Value::Bool(puts)));
    }
    Ok(keys)
}

/// A folder's template for conversations, that which is called default where there are several.
fn chat_template(folder: &Path) -> Option<String> {
    if let Ok(template) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
        return Some(template);
    }
    let text = std::fs::read_to_string(folder.join("tokenizer_config.json")).ok()?;
    let config: Json = serde_json::from_str(&text).ok()?;
    match &config["chat_template"] {
        Json::String(template) => Some(template.clone()),
        Json::Array(named) => {
            let default = named.iter().find(|template| template["name"] == "default")?;
            default["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}
