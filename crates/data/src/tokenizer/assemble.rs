//! Assembles a `tokenizer.json` around a model: normalizer, splitter, frame and decoder of each kind.

use serde_json::{Value, json};
use tokenizers::tokenizer::Tokenizer as Inner;

use crate::config::{TokenizerConfig, TokenizerKind};

/// A complete `tokenizer.json` around a model.
pub(super) fn assemble(
    config: &TokenizerConfig,
    specials: &[String],
    model: Value,
) -> tokenizers::Result<Inner> {
    let (normalizer, splitter, post_processor, decoder) = match config.kind {
        TokenizerKind::Word | TokenizerKind::File => (
            Value::Null,
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"},
            ]}),
            Value::Null,
            word_decoder(),
        ),
        TokenizerKind::Char => (Value::Null, Value::Null, Value::Null, json!({"type": "Fuse"})),
        TokenizerKind::Bpe => {
            let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
            (Value::Null, byte_level.clone(), Value::Null, byte_level)
        }
        TokenizerKind::Wordpiece => {
            let small = config.lowercase.unwrap_or(false);
            let special = |id: &str, text: u32| json!({"SpecialToken": {"id": id, "type_id": text}});
            let sequence = |id: &str, text: u32| json!({"Sequence": {"id": id, "type_id": text}});
            let known = |token: &str| {
                let id = specials.iter().position(|special| special == token);
                json!({"id": token, "ids": [id], "tokens": [token]})
            };
            (
                json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                    "strip_accents": null, "lowercase": small}),
                json!({"type": "BertPreTokenizer"}),
                json!({
                    "type": "TemplateProcessing",
                    "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
                    "pair": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0),
                        sequence("B", 1), special("[SEP]", 1)],
                    "special_tokens": {"[CLS]": known("[CLS]"), "[SEP]": known("[SEP]")},
                }),
                json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            )
        }
    };
    let added: Vec<Value> = specials
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": splitter, "post_processor": post_processor, "decoder": decoder, "model": model,
    });
    Inner::from_bytes(whole.to_string())
}

/// Joins words with spaces, and punctuation to its word.
///
/// Each rule looks at one token and the adjacent space, so the text of the first tokens never changes when more
/// follow: a stream of tokens decodes to the same text.
fn word_decoder() -> Value {
    let mut steps =
        vec![json!({"type": "WordPiece", "prefix": "##", "cleanup": false}), json!({"type": "Fuse"})];
    let mut rule = |from: &str, to: &str| {
        steps.push(json!({"type": "Replace", "pattern": {"String": from}, "content": to}));
    };
    for mark in
        [".", ",", ";", ":", "!", "?", ")", "]", "}", "%", "\u{2026}", "\u{201d}", "\u{2019}", "'", "-"]
    {
        rule(&format!(" {mark}"), mark);
    }
    for mark in ["(", "[", "{", "\u{201c}", "\u{2018}", "\u{2019}", "'", "-"] {
        rule(&format!("{mark} "), mark);
    }
    json!({"type": "Sequence", "decoders": steps})
}
