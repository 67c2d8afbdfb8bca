//! Reconstructs the parts of a `tokenizer.json` that llama.cpp has in code rather than in the file.

use serde_json::{Map, Value, json};

use super::parts::{BLANK, TokenKind, task};
use crate::splitters::Splitter;

/// Returns a `tokenizer.json` without its tokens, merges and scores.
///
/// # Errors
/// Returns a message if the kind of tokenizer or its splitter is not supported.
pub(super) fn rest(
    keys: &Map<String, Value>,
    kind: &str,
    tokens: &[(&str, TokenKind)],
) -> Result<Value, String> {
    let flag = |key: &str, silent: bool| keys.get(key).and_then(Value::as_bool).unwrap_or(silent);
    let unknown = id(keys, "unknown").and_then(|id| tokens.get(id)).map(|(text, _)| *text);
    let added: Vec<Value> = tokens
        .iter()
        .enumerate()
        .filter(|(_, (_, kind))| {
            matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined)
        })
        .map(|(id, (text, kind))| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != TokenKind::UserDefined})
        })
        .collect();
    let puts_blank = flag("tokenizer.ggml.add_space_prefix", true);
    let bpe = |falls_back: bool, whole_words_first: bool, unknown: Option<&str>| {
        json!({"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": falls_back, "byte_fallback": falls_back,
            "ignore_merges": whole_words_first})
    };
    let (mut opens, mut closes) = (false, false);
    let (normalizer, splitter, decoder, model) = match kind {
        "gpt2" => {
            let name = keys.get("tokenizer.ggml.pre").and_then(Value::as_str).unwrap_or("none");
            let splitter = Splitter::named(name).ok_or_else(|| {
                let known: Vec<&str> = crate::splitters::SPLITTERS.iter().map(|one| one.name).collect();
                format!(
                    "tokenizer.ggml.pre is {name:?}, which is not supported; expected one of {}. Use the model's \
                     folder instead, or pass ids (--ids)",
                    known.join(", ")
                )
            })?;
            opens = splitter.name == "llama-bpe";
            let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
            (Value::Null, splitter.to_json(), bytes, bpe(false, splitter.whole_words_first, None))
        }
        "llama" => {
            opens = true;
            let prepend = puts_blank.then(|| json!({"type": "Prepend", "prepend": BLANK}));
            let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": BLANK});
            let mut steps: Vec<Value> = prepend.into_iter().collect();
            steps.push(replace);
            let mut decoders = vec![
                json!({"type": "Replace", "pattern": {"String": BLANK}, "content": " "}),
                json!({"type": "ByteFallback"}),
                json!({"type": "Fuse"}),
            ];
            if puts_blank {
                decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            let unknown = unknown.or_else(|| {
                tokens.iter().find(|(_, kind)| *kind == TokenKind::Unknown).map(|(text, _)| *text)
            });
            (
                json!({"type": "Sequence", "normalizers": steps}),
                Value::Null,
                json!({"type": "Sequence", "decoders": decoders}),
                bpe(true, false, unknown),
            )
        }
        "bert" => {
            (opens, closes) = (true, true);
            let small = flag("tokenizer.ggml.normalizer.lowercase", true);
            let strips = flag("tokenizer.ggml.normalizer.strip_accents", small);
            (
                json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": strips, "lowercase": small}),
                json!({"type": "BertPreTokenizer"}),
                json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
                json!({"type": "WordPiece", "unk_token": unknown.unwrap_or("[UNK]"),
                    "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}),
            )
        }
        "t5" => {
            closes = true;
            let scheme = if puts_blank { "always" } else { "never" };
            let metaspace =
                json!({"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": true});
            let joins = flag("tokenizer.ggml.remove_extra_whitespaces", false);
            let splitter = match joins {
                true => {
                    json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace.clone()]})
                }
                false => metaspace.clone(),
            };
            let of_kind = tokens.iter().position(|(_, kind)| *kind == TokenKind::Unknown);
            (
                json!({"type": "Precompiled", "precompiled_charsmap": null}),
                splitter,
                metaspace,
                json!({"type": "Unigram", "unk_id": of_kind.or(id(keys, "unknown")), "byte_fallback": false}),
            )
        }
        other => {
            return Err(format!(
                "tokenizer.ggml.model is {other:?}, which is not supported; expected gpt2, llama, bert or t5. Use the \
                 model's folder instead, or pass ids (--ids)"
            ));
        }
    };
    let (before, after) = match kind {
        "bert" => (id(keys, "cls").or(id(keys, "bos")), id(keys, "seperator").or(id(keys, "eos"))),
        _ => (id(keys, "bos"), id(keys, "eos")),
    };
    let before = before.filter(|_| flag("tokenizer.ggml.add_bos_token", opens));
    let after = after.filter(|_| flag("tokenizer.ggml.add_eos_token", closes));
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": splitter, "post_processor": frame(tokens, before, after), "decoder": decoder, "model": model,
    }))
}

/// The id of a special token.
pub(super) fn id(keys: &Map<String, Value>, name: &str) -> Option<usize> {
    keys.get(&task(name)).and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok())
}

/// The post-processor: the special tokens around a text and a pair.
fn frame(tokens: &[(&str, TokenKind)], before: Option<usize>, after: Option<usize>) -> Value {
    let named = |id: Option<usize>| id.and_then(|id| Some((id, tokens.get(id)?.0)));
    let (before, after) = (named(before), named(after));
    if before.is_none() && after.is_none() {
        return Value::Null;
    }
    let special = |token: Option<(usize, &str)>, text: u8| {
        token.map(|(_, token)| json!({"SpecialToken": {"id": token, "type_id": text}}))
    };
    let about = |name: &str, text: u8, opening: Option<Value>| {
        let own = json!({"Sequence": {"id": name, "type_id": text}});
        opening.into_iter().chain([own]).chain(special(after, text)).collect::<Vec<Value>>()
    };
    let single = about("A", 0, special(before, 0));
    // BERT's second text has no opening token; without a closing token, each text has one.
    let second = if after.is_some() { None } else { special(before, 1) };
    let pair = [single.clone(), about("B", 1, second)].concat();
    let known: Map<String, Value> = [before, after]
        .into_iter()
        .flatten()
        .map(|(id, token)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known})
}
