//! SentencePiece's BPE, as in Llama 2 and Gemma: pieces with scores, `▁` for a space, byte fallback.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::quantized::gguf_file::Value;
use serde_json::{Value as Json, json};
use vulpes_data::gguf::{BLANK, TokenKind, merges_of};

use super::{File, refusal, steps};
use crate::error::Result;
use crate::gguf::Keys;

/// The keys of a BPE whose pieces begin words with `▁`, with byte fallback.
///
/// Merges that a reader can't derive from the scores go to `more`.
pub(super) fn keys(file: &File, notes: &mut Vec<String>, more: &mut Option<Json>) -> Result<Keys> {
    let puts_blank = blank_before(file)?;
    let merges = file.merges()?;
    let is_byte = |text: &str| {
        text.len() == 6
            && text.starts_with("<0x")
            && text.ends_with('>')
            && text[3..5].bytes().all(|c| c.is_ascii_hexdigit())
    };
    let mut keys = file.tokens("llama", "default", |id, text, kind| {
        let kind = match kind {
            TokenKind::Control if Some(id) == file.tokenizer.unk_id() => TokenKind::Unknown,
            TokenKind::Normal if is_byte(text) => TokenKind::Byte,
            TokenKind::Normal if Some(id) == file.tokenizer.unk_id() => TokenKind::Unknown,
            kind => kind,
        };
        (text.to_owned(), kind)
    });
    if let Some((piece, left, right)) = unmerged(file, &merges) {
        notes.push(format!(
            "llama.cpp joins any two pieces that form a third, but the tokenizer uses its list of merges, \
             which lacks {left:?} + {right:?} = {piece:?} and perhaps others: some texts may be split \
             differently there"
        ));
    }
    let scores = scores(file, &merges, &is_byte);
    let ids = (0..file.n_ids as u32).filter(|id| !file.added.contains_key(id));
    let texts = ids.filter_map(|id| Some((file.tokenizer.id_to_token(id)?, f64::from(scores[id as usize]))));
    let pieces: Vec<(String, f64)> = texts.filter(|(text, _)| !is_byte(text)).collect();
    let pieces: Vec<(&str, f64)> = pieces.iter().map(|(text, score)| (text.as_str(), *score)).collect();
    if merges_of(&pieces) != merges {
        *more = Some(merges.iter().map(|(left, right)| json!([left, right])).collect());
    }
    keys.push(("tokenizer.ggml.scores".into(), Value::Array(scores.into_iter().map(Value::F32).collect())));
    keys.push(("tokenizer.ggml.add_space_prefix".into(), Value::Bool(puts_blank)));
    keys.push(("tokenizer.ggml.remove_extra_whitespaces".into(), Value::Bool(false)));
    Ok(keys)
}

/// Each piece's score: the earlier its merge, the higher; letters, which no merge makes, come last.
fn scores(file: &File, merges: &[(&str, &str)], is_byte: &impl Fn(&str) -> bool) -> Vec<f32> {
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    for (left, right) in merges {
        let next = made.len();
        made.entry(format!("{left}{right}")).or_insert(next);
    }
    let mut n_letters = 0;
    (0..file.n_ids as u32)
        .map(|id| {
            let Some(text) = file.tokenizer.id_to_token(id) else { return 0.0 };
            if file.added.contains_key(&id) || is_byte(&text) {
                return 0.0;
            }
            let rank = made.get(&text).copied().unwrap_or_else(|| {
                n_letters += 1;
                made.len() + n_letters - 1
            });
            -(rank as f32)
        })
        .collect()
}

/// A piece, and two others that form it but that no merge joins.
fn unmerged(file: &File, merges: &[(&str, &str)]) -> Option<(String, String, String)> {
    let listed: BTreeSet<(&str, &str)> = merges.iter().copied().collect();
    let is_plain =
        |text: &str| file.tokenizer.token_to_id(text).is_some_and(|id| !file.added.contains_key(&id));
    let mut seen = BTreeSet::new();
    for (left, right) in merges {
        let piece = format!("{left}{right}");
        if !seen.insert(piece.clone()) {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if is_plain(left) && is_plain(right) && !listed.contains(&(left, right)) {
                return Some((piece.clone(), left.to_owned(), right.to_owned()));
            }
        }
    }
    None
}

/// Whether a space is put before a text.
fn blank_before(file: &File) -> Result<bool> {
    let unknown =
        |step: &Json| refusal(format!("llama.cpp doesn't support this step before its pieces: {step}"));
    let (mut puts, mut replaces) = (false, false);
    for step in steps(&file.json["normalizer"], "normalizers") {
        match step["type"].as_str() {
            Some("Prepend") if step["prepend"] == BLANK => puts = true,
            Some("Replace") if step["pattern"]["String"] == " " && step["content"] == BLANK => {
                replaces = true
            }
            _ => return Err(unknown(&step)),
        }
    }
    for step in steps(&file.json["pre_tokenizer"], "pretokenizers") {
        match step["type"].as_str() {
            Some("Metaspace") if step["replacement"] == BLANK => {
                replaces = true;
                puts |= step["prepend_scheme"] != "never";
            }
            // After spaces became ▁ there is none to split at: Gemma's.
            Some("Split") if step["pattern"]["String"] == " " && replaces => {}
            _ => return Err(unknown(&step)),
        }
    }
    match replaces {
        true => Ok(puts),
        false => Err(refusal(format!("spaces stay spaces in it, but llama.cpp's pieces have {BLANK}"))),
    }
}
