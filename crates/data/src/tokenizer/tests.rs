//! Round trips, canonical order, and what each kind makes of text.

use super::*;
use crate::TokenizerKind;

fn config(kind: TokenizerKind) -> TokenizerConfig {
    TokenizerConfig { kind, ..TokenizerConfig::default() }
}

const TEXTS: [&str; 3] = [
    "The quick brown fox jumps over the lazy dog.",
    "The fox said: \"don't (ever) stop!\"",
    "Über-fox 狐 🦊\r\n\ttwo",
];

#[test]
fn words_keep_case_and_split_punctuation_off() {
    let tokenizer = Tokenizer::train(&config(TokenizerKind::Word), TEXTS).unwrap();
    let encoded = tokenizer.encode_detailed("The quick wolf jumps, the fox.", false).unwrap();
    assert_eq!(encoded.tokens, ["The", "quick", "[UNK]", "jumps", "[UNK]", "the", "fox", "."]);
    assert_eq!(encoded.unknown, ["wolf", ","]);
    assert_eq!(
        (tokenizer.unk_id(), tokenizer.pad_id(), tokenizer.mask_id(), tokenizer.eos_id()),
        (Some(0), Some(1), Some(2), Some(3))
    );
    let text = "The quick brown fox jumps over the lazy dog.";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), true).unwrap(), text);
    let text = "The fox said: \"";
    assert!(
        tokenizer.decode(&tokenizer.encode(TEXTS[1]).unwrap(), true).unwrap().starts_with("The fox said:")
    );
    assert!(
        tokenizer.decode(&tokenizer.encode(TEXTS[1]).unwrap(), true).unwrap().contains("don't (ever) stop!"),
        "{text}"
    );
    let masked = tokenizer.encode_detailed("The [MASK] fox", false).unwrap();
    assert_eq!(masked.ids[1], 2);
}

#[test]
fn characters_and_bytes_lose_nothing() {
    for kind in [TokenizerKind::Char, TokenizerKind::Bpe] {
        let tokenizer = Tokenizer::train(&config(kind), TEXTS).unwrap();
        for text in TEXTS {
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap(), false).unwrap(), text, "{kind:?}");
        }
    }
}

#[test]
fn wordpiece_frames_texts_and_pairs() {
    let tokenizer = Tokenizer::train(&config(TokenizerKind::Wordpiece), TEXTS).unwrap();
    let (ids, types) = tokenizer.encode_framed("The fox", Some("the dog"), None).unwrap();
    let token = |id: &u32| tokenizer.id_to_token(*id).unwrap();
    assert!(tokenizer.has_frame());
    assert_eq!(token(&ids[0]), "[CLS]");
    assert_eq!(ids.iter().filter(|id| token(id) == "[SEP]").count(), 2);
    assert_eq!((types[0], types.last()), (0, Some(&1)));
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "The fox the dog");
}

#[test]
fn the_order_of_the_texts_does_not_matter() {
    let mut turned = TEXTS;
    turned.reverse();
    for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
        let (one, two) = (Tokenizer::train(&config(kind), TEXTS), Tokenizer::train(&config(kind), turned));
        assert_eq!(one.unwrap().to_json(), two.unwrap().to_json(), "{kind:?}");
    }
}

#[test]
fn a_stream_gives_the_text_of_the_whole() {
    for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
        let tokenizer = Tokenizer::train(&config(kind), TEXTS).unwrap();
        for text in TEXTS {
            let ids = tokenizer.encode(text).unwrap();
            let mut stream = tokenizer.decode_stream(true);
            let mut streamed = String::new();
            for &id in &ids {
                streamed.extend(stream.push(id).unwrap());
            }
            streamed += &stream.finish().unwrap();
            assert_eq!(streamed, tokenizer.decode(&ids, true).unwrap(), "{kind:?}");
        }
    }
}

#[test]
fn hidden_truncation_and_padding_are_switched_off() {
    let tokenizer = Tokenizer::train(&config(TokenizerKind::Word), TEXTS).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(tokenizer.to_json()).unwrap();
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 1, "pad_type_id": 0, "pad_token": "[PAD]"});
    let loaded = Tokenizer::from_bytes(json.to_string().as_bytes(), "test").unwrap();
    assert_eq!(loaded.encode(TEXTS[0]).unwrap(), tokenizer.encode(TEXTS[0]).unwrap());
    assert_eq!(loaded.encode(TEXTS[0]).unwrap().len(), 10);
    assert_eq!(loaded.to_json(), tokenizer.to_json());
}

#[test]
fn a_vocabulary_that_the_corpus_cannot_fill_is_refused() {
    for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
        let config = TokenizerConfig { vocab_size: Some(5000), ..config(kind) };
        let error = Tokenizer::train(&config, TEXTS).unwrap_err().to_string();
        assert!(
            error.starts_with("data.tokenizer.vocab_size: 5000 is more than the corpus allows"),
            "{error}"
        );
    }
}
