//! A tokenizer as the keys of a GGUF file: its tokens with their kinds, and how llama.cpp splits texts.
//!
//! llama.cpp has its own code for each kind of tokenizer and reads no `tokenizer.json`; so a file is analyzed here,
//! and what llama.cpp would do differently is refused or noted.

mod bytes;
mod letters;
mod pieces;
mod unigram;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use vulpes_data::gguf::{self, TokenKind};
use vulpes_data::{ChatTemplate, Tokenizer};
use vulpes_model::ModelConfig;

use super::Keys;
use crate::error::{Error, Result};

/// An analyzed tokenizer.
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
    vec![(gguf::KIND.into(), Value::String("none".into()))]
}

/// The keys of a tokenizer; differences in llama.cpp are added to `notes`.
///
/// # Errors
/// [`Error::Tokenizer`] if GGUF can't represent it.
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
        return Err(refusal(format!(
            "it has {n} ids, but the model has {rows} rows: they don't belong together"
        )));
    }
    let file = File { tokenizer, json, added, n_ids: config.vocab_size };
    let model = &file.json["model"];
    let falls_back = model["byte_fallback"].as_bool().unwrap_or(false);
    // Those that scores don't say.
    let mut merges = None;
    let mut keys = match model["type"].as_str() {
        Some("WordPiece") => words::keys(&file)?,
        Some("Unigram") => unigram::keys(&file)?,
        Some("BPE") if falls_back => pieces::keys(&file, notes, &mut merges)?,
        Some("BPE") if model["merges"].as_array().is_none_or(Vec::is_empty) => letters::keys(&file, notes)?,
        Some("BPE") => bytes::keys(&file, notes)?,
        Some("WordLevel") => {
            return Err(refusal(
                "it has only complete words (WordLevel), but llama.cpp has byte-level BPE, SentencePiece's \
                 BPE and unigrams, and WordPiece; train with data.tokenizer.kind = \"bpe\" to have one that \
                 can be exported"
                    .into(),
            ));
        }
        other => {
            return Err(refusal(format!(
                "it is {}, but only byte-level BPE, SentencePiece's BPE and unigrams, and WordPiece can be \
                 written",
                other.unwrap_or("of an unknown kind")
            )));
        }
    };
    keys.extend(ends(&file)?);
    let mut rest = gguf::rest(&file.json);
    if let Some(merges) = merges.filter(|merges| !merges.is_null()) {
        rest["model"]["merges"] = merges;
    }
    keys.push((gguf::REST.into(), Value::String(rest.to_string())));
    if let Some(template) = ChatTemplate::source_of(folder) {
        keys.push((gguf::TEMPLATE.into(), Value::String(template)));
    }
    Ok(keys)
}

fn refusal(reason: String) -> Error {
    Error::Tokenizer { reason }
}

impl File<'_> {
    /// The keys of the tokens: the model's name, the splitter, the tokens as `spelled`, and their kinds.
    fn tokens(
        &self,
        model: &str,
        splitter: &str,
        spelled: impl Fn(u32, &str, TokenKind) -> (String, TokenKind),
    ) -> Keys {
        let (mut texts, mut kinds) = (Vec::with_capacity(self.n_ids), Vec::with_capacity(self.n_ids));
        for id in 0..self.n_ids as u32 {
            let (text, kind) = match self.tokenizer.id_to_token(id) {
                None => (format!("[PAD{id}]"), TokenKind::Unused),
                Some(text) => {
                    let kind = match self.added.get(&id) {
                        Some(true) => TokenKind::Control,
                        Some(false) => TokenKind::UserDefined,
                        None => TokenKind::Normal,
                    };
                    spelled(id, &text, kind)
                }
            };
            texts.push(Value::String(text));
            kinds.push(Value::I32(kind as i32));
        }
        vec![
            (gguf::KIND.into(), Value::String(model.into())),
            ("tokenizer.ggml.pre".into(), Value::String(splitter.into())),
            (gguf::TOKENS.into(), Value::Array(texts)),
            (gguf::TOKEN_KINDS.into(), Value::Array(kinds)),
        ]
    }

    /// The merges, as pairs, in order.
    fn merges(&self) -> Result<Vec<(&str, &str)>> {
        let merges = self.json["model"]["merges"].as_array().into_iter().flatten();
        merges.map(|merge| pair(merge).ok_or_else(|| refusal("its merges are not pairs".into()))).collect()
    }
}

/// The steps of a normalizer or pre-tokenizer, in order.
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

/// The opening and end tokens, the other tokens with a role, and the frame that llama.cpp adds to a text.
fn ends(file: &File) -> Result<Keys> {
    let tokenizer = file.tokenizer;
    let opening = tokenizer.opening();
    let framed = tokenizer.encode_framed("", None, None)?.0;
    let closing = framed.get(opening.len()..).unwrap_or_default();
    if opening.len() > 1 || closing.len() > 1 {
        let (n_before, n_after) = (opening.len(), closing.len());
        return Err(refusal(format!(
            "it puts {n_before} tokens before a text and {n_after} after it, but llama.cpp puts at most one"
        )));
    }
    let (opening, closing) = (opening.first().copied(), closing.first().copied());
    let kind = &file.json["model"]["type"];
    let has_words = kind == "WordPiece" || kind == "Unigram";
    let mut keys = Keys::new();
    let mut say = |key: &str, id: Option<u32>| {
        if let Some(id) = id {
            keys.push((gguf::task(key), Value::U32(id)));
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
