//! Builds a tokenizer from the keys of a GGUF file.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::parts::{
    BLANK, CHARSMAP, KIND, MERGES, REST, TEMPLATE, TOKEN_KINDS, TOKENS, TokenKind, charsmaps, task,
};
use super::pieces::merges_of;
use super::plain::{self, id};
use super::spelling::{NEVER, spelled, unspelled};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The tokenizer of a GGUF file, its end tokens and its chat template.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The tokens that end a text or a chat turn.
    pub end_ids: Vec<u32>,
    /// The chat template.
    pub template: Option<String>,
}

/// Reads the tokenizer of a file, named `what` in messages; `None` if it has none.
///
/// # Errors
/// Returns an error if a key is missing, contradicts another or is not supported; the message names it.
pub fn read(keys: &Map<String, Value>, what: &str) -> Result<Option<Vocabulary>> {
    let wrong = |problem: String| Error::tokenizer(what, problem);
    let Some(kind) = keys.get(KIND).and_then(Value::as_str).filter(|kind| *kind != "none") else {
        return Ok(None);
    };
    let json = put_together(keys, kind).map_err(wrong)?;
    let stated: Map<String, Value> =
        [("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id")]
            .into_iter()
            // A token that only ends texts is both `bos` and `eos` in the file.
            .filter(|(name, _)| *name != "bos" || opens(keys))
            .filter_map(|(name, ours)| Some((ours.to_owned(), json!(id(keys, name)?))))
            .collect();
    let text = |name: &str| json["tokens"].get(id(keys, name)?).cloned();
    let named: Map<String, Value> = [("unknown", "unk_token"), ("mask", "mask_token")]
        .into_iter()
        .filter_map(|(name, ours)| Some((ours.to_owned(), text(name)?)))
        .collect();
    let tokenizer = Tokenizer::from_bytes(json["whole"].to_string().as_bytes(), what)?
        .stating(&[Value::Object(named)], &[Value::Object(stated)]);
    let end_ids = ["eos", "eot", "eom"].iter().filter_map(|name| u32::try_from(id(keys, name)?).ok());
    let end_ids = end_ids.filter(|id| tokenizer.id_to_token(*id).is_some()).collect();
    let template = keys.get(TEMPLATE).and_then(Value::as_str).map(str::to_owned);
    Ok(Some(Vocabulary { tokenizer, end_ids, template }))
}

/// Whether the `bos` token is added to texts, or differs from `eos`.
fn opens(keys: &Map<String, Value>) -> bool {
    let puts = keys.get("tokenizer.ggml.add_bos_token").and_then(Value::as_bool).unwrap_or(false);
    puts || keys.get(&task("bos")) != keys.get(&task("eos"))
}

/// Builds the `tokenizer.json` ("whole"), and its tokens by id ("tokens").
fn put_together(keys: &Map<String, Value>, kind: &str) -> std::result::Result<Value, String> {
    let list = |key: &str| keys.get(key).and_then(Value::as_array);
    let texts = list(TOKENS).ok_or_else(|| format!("has no list {TOKENS}"))?;
    let kinds = list(TOKEN_KINDS);
    if let Some(kinds) = kinds.filter(|kinds| kinds.len() != texts.len()) {
        return Err(format!("{TOKEN_KINDS} has {} entries for {} tokens", kinds.len(), texts.len()));
    }
    let mut tokens: Vec<(&str, TokenKind)> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let text = text.as_str().ok_or_else(|| format!("{TOKENS}: entry {at} is not a string"))?;
        let kind = match kinds.map(|kinds| &kinds[at]) {
            None => TokenKind::Normal,
            Some(number) => number.as_i64().and_then(TokenKind::of).ok_or_else(|| {
                format!("{TOKEN_KINDS}: entry {at} is {number}; expected a number from 1 to 6")
            })?,
        };
        tokens.push((text, kind));
    }
    let mut whole = match keys.get(REST) {
        None => plain::rest(keys, kind, &tokens)?,
        Some(rest) => {
            let rest = rest.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            rest.filter(|rest| rest["model"].is_object())
                .ok_or_else(|| format!("{REST} is not a tokenizer in JSON"))?
        }
    };
    let merges = list(MERGES).map(Vec::as_slice).unwrap_or_default();
    let merges: Option<Vec<&str>> = merges.iter().map(Value::as_str).collect();
    let merges = merges.ok_or_else(|| format!("{MERGES} has an entry that is not a string"))?;
    let spelling = spelling(kind, &merges);
    let is_unused = |at: usize, (text, kind): (&str, TokenKind)| {
        kind == TokenKind::Unused && text.trim_start_matches(BLANK) == format!("[PAD{at}]")
    };
    let own: Vec<Option<String>> = tokens
        .iter()
        .enumerate()
        .map(|(at, token)| if is_unused(at, *token) { Ok(None) } else { spelling.text(*token).map(Some) })
        .collect::<std::result::Result<_, String>>()?;
    if kind == "t5" {
        whole["model"]["vocab"] = unigrams(keys, &own)?;
    } else {
        let mut vocabulary = Map::new();
        for (at, text) in own.iter().enumerate() {
            if let Some(text) = text.as_ref().filter(|text| !vocabulary.contains_key(*text)) {
                vocabulary.insert(text.clone(), at.into());
            }
        }
        whole["model"]["vocab"] = Value::Object(vocabulary);
    }
    match spelling {
        Spelling::Bytes => {
            let pairs: Option<Vec<Value>> =
                merges.iter().map(|merge| merge.split_once(' ').map(|(a, b)| json!([a, b]))).collect();
            whole["model"]["merges"] =
                pairs.ok_or_else(|| format!("{MERGES} has an entry that is not a pair"))?.into();
        }
        Spelling::Letters => {
            whole["model"]["merges"] = json!([]);
            if keys.get(REST).is_none() {
                letters(&mut whole, id(keys, "unknown").and_then(|id| tokens.get(id)).map(|(text, _)| *text));
            }
        }
        Spelling::Pieces if kind == "llama" && whole["model"]["merges"].is_null() => {
            whole["model"]["merges"] = piece_merges(keys, &tokens)?;
        }
        Spelling::Pieces | Spelling::Words => {}
    }
    table_of_letters(keys, &mut whole)?;
    Ok(json!({"whole": whole, "tokens": own}))
}

/// How the file spells tokens.
#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    /// Bytes in GPT-2's characters, as in a `tokenizer.json`.
    Bytes,
    /// Single characters, their bytes in GPT-2's characters.
    Letters,
    /// Unchanged.
    Pieces,
    /// Word-initial tokens are marked, not the continuations.
    Words,
}

fn spelling(kind: &str, merges: &[&str]) -> Spelling {
    let never = NEVER.map(|byte| spelled(&[byte])).join(" ");
    match kind {
        "gpt2" if merges.contains(&never.as_str()) => Spelling::Letters,
        "gpt2" => Spelling::Bytes,
        "bert" => Spelling::Words,
        _ => Spelling::Pieces,
    }
}

impl Spelling {
    fn text(self, (text, kind): (&str, TokenKind)) -> std::result::Result<String, String> {
        let is_plain = matches!(kind, TokenKind::Normal | TokenKind::Byte | TokenKind::Unused);
        match self {
            Self::Letters if is_plain => {
                unspelled(text).ok_or_else(|| format!("{TOKENS}: {text:?} does not spell a character"))
            }
            Self::Words if kind != TokenKind::Control => Ok(match text.strip_prefix(BLANK) {
                Some(word) => word.to_owned(),
                None if kind == TokenKind::Unknown => text.to_owned(),
                None => format!("##{text}"),
            }),
            _ => Ok(text.to_owned()),
        }
    }
}

/// A unigram model's pieces with their scores; trailing tokens without a score are only added tokens.
fn unigrams(keys: &Map<String, Value>, own: &[Option<String>]) -> std::result::Result<Value, String> {
    /// The score of tokens without one.
    const NONE: f64 = -10_000.0;
    let scores = scores(keys, own.len())?;
    let n = scores.iter().rposition(|score| *score != NONE).map_or(0, |last| last + 1);
    let piece = |(at, (text, score)): (usize, (&Option<String>, &f64))| {
        json!([text.clone().unwrap_or_else(|| format!("[PAD{at}]")), score])
    };
    Ok(own.iter().zip(&scores).take(n).enumerate().map(piece).collect::<Vec<Value>>().into())
}

fn scores(keys: &Map<String, Value>, n: usize) -> std::result::Result<Vec<f64>, String> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores = keys.get(KEY).and_then(Value::as_array).ok_or_else(|| format!("has no list {KEY}"))?;
    let scores: Option<Vec<f64>> = scores.iter().map(Value::as_f64).collect();
    let scores = scores.ok_or_else(|| format!("{KEY} has an entry that is not a number"))?;
    match scores.len() == n {
        true => Ok(scores),
        false => Err(format!("{KEY} has {} entries for {n} tokens", scores.len())),
    }
}

fn piece_merges(
    keys: &Map<String, Value>,
    tokens: &[(&str, TokenKind)],
) -> std::result::Result<Value, String> {
    let scores = scores(keys, tokens.len())?;
    let plain = tokens.iter().zip(&scores).filter(|((_, kind), _)| *kind == TokenKind::Normal);
    let pieces: Vec<(&str, f64)> = plain.map(|((text, _), score)| (*text, *score)).collect();
    let pairs = merges_of(&pieces).into_iter().map(|(left, right)| json!([left, right]));
    Ok(pairs.collect::<Vec<Value>>().into())
}

/// Sets the other parts of a character tokenizer.
fn letters(whole: &mut Value, unknown: Option<&str>) {
    whole["pre_tokenizer"] = Value::Null;
    whole["decoder"] = json!({"type": "Fuse"});
    whole["model"]["unk_token"] = json!(unknown);
}

/// Inserts the character map, which has its own key, into the normalizer.
fn table_of_letters(keys: &Map<String, Value>, whole: &mut Value) -> std::result::Result<(), String> {
    let bytes = keys.get(CHARSMAP).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // llama.cpp's converter writes signed bytes.
    let byte = |value: &Value| Some(value.as_i64().filter(|byte| (-128..256).contains(byte))? as u8);
    let bytes: Option<Vec<u8>> = bytes.iter().map(byte).collect();
    let bytes = bytes.ok_or_else(|| format!("{CHARSMAP} has an entry that is not a byte"))?;
    if bytes.is_empty() && whole["normalizer"]["type"] == "Precompiled" {
        whole["normalizer"] = Value::Null;
    }
    let table = BASE64_STANDARD.encode(bytes);
    for place in charsmaps(&mut whole["normalizer"]) {
        *place = json!(table);
    }
    Ok(())
}
