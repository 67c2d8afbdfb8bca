//! A vocabulary of single letters, as a byte-level BPE that only joins the bytes of each letter.

use std::collections::BTreeSet;

use candle_core::quantized::gguf_file::Value;
use vulpes_data::gguf::{MERGES, NEVER, TokenKind, spelled};

use super::{File, refusal};
use crate::error::Result;
use crate::gguf::Keys;

/// The keys of a tokenizer whose tokens are letters.
pub(super) fn keys(file: &File, notes: &mut Vec<String>) -> Result<Keys> {
    for part in ["normalizer", "pre_tokenizer"] {
        if !file.json[part].is_null() {
            return Err(refusal(format!("it has single letters and a {part}, {}", file.json[part])));
        }
    }
    let letters = (0..file.n_ids as u32).filter(|id| !file.added.contains_key(id));
    let letters: Vec<String> = letters.filter_map(|id| file.tokenizer.id_to_token(id)).collect();
    if let Some(piece) = letters.iter().find(|piece| piece.chars().count() != 1) {
        return Err(refusal(format!("it has no merges that make {piece:?}, which is longer than a letter")));
    }
    let unknown = file.tokenizer.unk_id().and_then(|id| file.tokenizer.id_to_token(id));
    notes.push(format!(
        "llama.cpp skips letters that are not in the vocabulary, but the tokenizer {}",
        unknown.map_or("refuses the text".to_owned(), |unknown| format!("uses {unknown}"))
    ));
    let mut keys = file.tokens("gpt2", "gpt-2", |_, text, kind| match kind {
        TokenKind::Control | TokenKind::UserDefined => (text.to_owned(), kind),
        _ => (spelled(text.as_bytes()), kind),
    });
    // Of a letter's bytes the first two are joined, then those and the third.
    let mut seen = BTreeSet::new();
    let joined = letters.iter().map(String::as_bytes).chain([&NEVER[..]]);
    let merges: Vec<Value> = joined
        .flat_map(|bytes| (1..bytes.len()).map(move |n| (&bytes[..n], &bytes[n..=n])))
        .filter(|merge| seen.insert(*merge))
        .map(|(left, right)| Value::String(format!("{} {}", spelled(left), spelled(right))))
        .collect();
    keys.push((MERGES.into(), Value::Array(merges)));
    Ok(keys)
}
