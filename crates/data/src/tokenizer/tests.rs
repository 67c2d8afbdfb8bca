//! Round trips, canonical order, and the ids of each kind of tokenizer.

use super::*;
use crate::config::TokenizerKind;

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
fn char_and_bpe_restore_the_text() {
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
fn tokenizer_does_not_depend_on_the_order_of_texts() {
    let mut turned = TEXTS;
    turned.reverse();
    for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
        let (one, two) = (Tokenizer::train(&config(kind), TEXTS), Tokenizer::train(&config(kind), turned));
        assert_eq!(one.unwrap().to_json(), two.unwrap().to_json(), "{kind:?}");
    }
}

#[test]
fn streamed_text_equals_decoded_text() {
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
fn invalid_tokenizer_files_are_refused() {
    for bytes in ["", "fox", "{}", "{\"model\": 3}"] {
        let error = Tokenizer::from_bytes(bytes.as_bytes(), "a.json").unwrap_err().to_string();
        assert!(
            error.starts_with("tokenizer a.json: ") && error.contains("wanted a tokenizer.json"),
            "{error}"
        );
    }
}

#[test]
fn bpe_dropout_is_switched_off() {
    let tokenizer = Tokenizer::train(&config(TokenizerKind::Bpe), TEXTS).unwrap();
    let json = tokenizer.to_json().replacen("\"dropout\": null", "\"dropout\": 0.9", 1);
    assert_ne!(json, tokenizer.to_json());
    let loaded = Tokenizer::from_bytes(json.as_bytes(), "test").unwrap();
    assert_eq!(loaded.encode(TEXTS[0]).unwrap(), tokenizer.encode(TEXTS[0]).unwrap());
    assert_eq!(loaded.to_json(), tokenizer.to_json());
}

#[test]
fn small_corpus_gives_a_smaller_vocabulary() {
    for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
        let at_most = |vocab_size| TokenizerConfig { vocab_size, ..config(kind) };
        let full = Tokenizer::train(&at_most(Some(5000)), TEXTS).unwrap();
        assert!(full.vocab_size() < 5000);
        assert_eq!(full.to_json(), Tokenizer::train(&at_most(None), TEXTS).unwrap().to_json());
    }
}

/// Text of words, whitespace of all kinds, punctuation, letters of many scripts, control characters and special
/// tokens.
fn mixed_text() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let piece = prop_oneof![
        "[a-zA-Z]{1,6}",
        "[ \\t\\n\\r]{1,3}",
        "[!-/:-@'\"]{1,3}",
        "[0-9]{1,4}",
        any::<char>().prop_map(String::from),
        Just(" ".to_owned()),
        Just("\u{a0}".to_owned()),
        Just("\u{3000}".to_owned()),
        Just("'ll".to_owned()),
        Just("[MASK]".to_owned()),
        Just("<|endoftext|>".to_owned()),
        "[а-яé狐]{1,4}",
        "[a-z_.'0-9()\\[<|]{1,8}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn ids_of(encoder: &mut ThreadEncoder<'_>, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    encoder.encode(text, &mut ids).unwrap();
    ids
}

proptest::proptest! {
    #[test]
    fn byte_level_bpe_restores_any_text(text in mixed_text()) {
        let tokenizer = Tokenizer::train(&config(TokenizerKind::Bpe), TEXTS).unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        proptest::prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.clone());
        let mut stream = tokenizer.decode_stream(false);
        let mut streamed: String = ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
        streamed += &stream.finish().unwrap();
        proptest::prop_assert_eq!(streamed, text);
    }

    #[test]
    fn cached_pieces_have_the_ids_of_the_text(texts in proptest::collection::vec(mixed_text(), 1..4)) {
        for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
            let tokenizer = Tokenizer::train(&config(kind), TEXTS).unwrap();
            proptest::prop_assert_eq!(tokenizer.cut(), Cut::Blanks);
            let encoder = Encoder::new(&tokenizer);
            let mut session = encoder.for_thread();
            for text in &texts {
                proptest::prop_assert_eq!(ids_of(&mut session, text), tokenizer.encode(text).unwrap(), "{:?} {:?}", kind, text);
            }
        }
    }

    #[test]
    fn frames_equal_the_tokenizers_crate(one in mixed_text(), two in mixed_text()) {
        let tokenizer = Tokenizer::train(&config(TokenizerKind::Wordpiece), TEXTS).unwrap();
        let theirs = |encoding: tokenizers::Encoding| (encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec());
        let single = theirs(tokenizer.inner.encode(one.as_str(), true).unwrap());
        proptest::prop_assert_eq!(tokenizer.encode_framed(&one, None, None).unwrap(), single);
        let pair = theirs(tokenizer.inner.encode((one.as_str(), two.as_str()), true).unwrap());
        proptest::prop_assert_eq!(tokenizer.encode_framed(&one, Some(&two), None).unwrap(), pair);
        let (ids, texts) = tokenizer.encode_framed(&one, Some(&two), Some(9)).unwrap();
        proptest::prop_assert!(ids.len() <= 9 && ids.len() == texts.len());
    }

    #[test]
    fn prefix_space_is_added_before_the_text_only(text in mixed_text()) {
        let tokenizer = Tokenizer::train(&config(TokenizerKind::Bpe), TEXTS).unwrap();
        let json = tokenizer.to_json().replacen("\"add_prefix_space\": false", "\"add_prefix_space\": true", 1);
        let tokenizer = Tokenizer::from_bytes(json.as_bytes(), "test").unwrap();
        proptest::prop_assert_eq!(tokenizer.cut(), Cut::Words);
        let encoder = Encoder::new(&tokenizer);
        proptest::prop_assert_eq!(ids_of(&mut encoder.for_thread(), &text), tokenizer.encode(&text).unwrap(), "{:?}", text);
    }

    #[test]
    fn texts_cut_at_joints_have_the_ids_of_the_text(text in mixed_text()) {
        let text = format!("{text} The fox jumps\n{text}").repeat(4);
        for tokenizer in [llama3(), llama2()] {
            proptest::prop_assert_eq!(tokenizer.cut(), Cut::Never);
            let whole = tokenizer.encode(&text).unwrap();
            let Some(joint) = tokenizer.last_joint(&text) else { continue };
            let (before, after) = (&text[..joint.at], &text[joint.at + joint.skip..]);
            let parts = [tokenizer.encode(before).unwrap(), tokenizer.encode(after).unwrap()].concat();
            proptest::prop_assert_eq!(parts, whole, "{:?} at {:?}", text, joint);
        }
    }
}

/// The fox's byte pairs with the splitter of Llama 3.
fn llama3() -> Tokenizer {
    let tokenizer = Tokenizer::train(&config(TokenizerKind::Bpe), TEXTS).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(tokenizer.to_json()).unwrap();
    let split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    Tokenizer::from_bytes(json.to_string().as_bytes(), "llama3").unwrap()
}

/// Characters and a few merges under the normalizer of Llama 2, without any splits.
fn llama2() -> Tokenizer {
    let letters = "▁abcdefghijklmnopqrstuvwxyzTF.,'\n".chars().map(String::from);
    let merges =
        [["▁", "t"], ["o", "x"], ["f", "ox"], ["▁", "fox"], ["h", "e"], ["▁T", "he"], ["▁", "T"], ["▁", "▁"]];
    let tokens = ["<unk>".to_owned()].into_iter().chain(letters).chain(merges.map(|pair| pair.concat()));
    let mut tokens: Vec<String> = tokens.collect();
    tokens.dedup();
    let vocab: serde_json::Map<_, _> = tokens.into_iter().zip(0u32..).map(|(t, id)| (t, id.into())).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "post_processor": null,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "decoder": null,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "unk_token": "<unk>", "fuse_unk": true},
    });
    Tokenizer::from_bytes(json.to_string().as_bytes(), "llama2").unwrap()
}

#[test]
fn long_texts_are_cut_only_where_the_splitter_allows() {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(20_000);
    for tokenizer in [llama3(), llama2()] {
        assert!(tokenizer.parts(&text).len() >= 4);
        let encoder = Encoder::new(&tokenizer);
        assert_eq!(ids_of(&mut encoder.for_thread(), &text), tokenizer.encode(&text).unwrap());
    }
    let never = "x".repeat(5 << 20);
    let error = Encoder::new(&llama3()).for_thread().encode(&never, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("a text of 5 MB"), "{error}");
}
