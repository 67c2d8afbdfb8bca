//! A vocabulary of single letters, as a byte-level BPE that joins the bytes of each letter and nothing else.

use std::collections::BTreeSet;

use candle_core::quantized::gguf_file::Value;

use super::{CONTROL, File, USER_DEFINED, refusal};
use crate::error::Result;
use crate::gguf::Keys;

/// Two bytes that no text has, so that there is a merge even where every letter is one byte.
const NEVER: [u8; 2] = [0xc0, 0xc1];

/// The keys of a tokenizer whose tokens are letters.
pub(super) fn keys(file: &File, notes: &mut Vec<String>) -> Result<Keys> {
    for part in ["normalizer", "pre_tokenizer"] {
        if !file.json[part].is_null() {
            return Err(refusal(format!("it knows single letters and has a {part}, {}", file.json[part])));
        }
    }
    let letters = (0..file.n_ids as u32).filter(|id| !file.added.contains_key(id));
    let letters: Vec<String> = letters.filter_map(|id| file.tokenizer.id_to_token(id)).collect();
    if let Some(piece) = letters.iter().find(|piece| piece.chars().count() != 1) {
        return Err(refusal(format!("it has no merges that make {piece:?}, which is more than a letter")));
    }
    let unknown = file.tokenizer.unk_id().and_then(|id| file.tokenizer.id_to_token(id));
    notes.push(format!(
        "llama.cpp passes over letters that the vocabulary doesn't know, where the tokenizer {}",
        unknown.map_or("refuses the text".to_owned(), |unknown| format!("has {unknown}"))
    ));
    let mut keys = file.tokens("gpt2", "gpt-2", |_, text, kind| match kind {
        CONTROL | USER_DEFINED => (text.to_owned(), kind),
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
    keys.push(("tokenizer.ggml.merges".into(), Value::Array(merges)));
    Ok(keys)
}

/// Bytes in GPT-2's letters for them: those that can be seen are themselves, the others the letters from U+0100 on, in order
/// ([Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf), `encoder.py`).
fn spelled(bytes: &[u8]) -> String {
    let is_seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let letter = |byte: u8| match is_seen(byte) {
        true => char::from(byte),
        false => {
            let place = (0..byte).filter(|other| !is_seen(*other)).count() as u32;
            char::from_u32(0x100 + place).unwrap_or_default()
        }
    };
    bytes.iter().map(|byte| letter(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_spelled_as_gpt2_spells_them() {
        assert_eq!(spelled("a b\n\té".as_bytes()), "aĠbĊĉÃ©");
        assert_eq!(spelled(&[0, 0x7f, 0xa0, 0xad]), "ĀġłŃ");
    }
}
