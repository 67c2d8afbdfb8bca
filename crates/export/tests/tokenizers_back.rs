//! Exported tokenizers read back encode and decode difficult strings identically.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Place, small};
use vulpes_data::gguf::{REST, read};
use vulpes_data::{Tokenizer, TokenizerConfig, TokenizerKind};
use vulpes_export::Format;
use vulpes_model::Head;
use vulpes_model::config::Family;
use vulpes_model::gguf::File;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers")
}

/// Difficult strings, including special tokens.
fn hard() -> Vec<String> {
    let mut all: Vec<String> =
        serde_json::from_slice(&std::fs::read(fixtures().join("tricky.json")).unwrap()).unwrap();
    for text in [
        "<|endoftext|>",
        "a<|endoftext|>b",
        " </s>x",
        "<s> a",
        "<unk>",
        "[MASK] is [SEP]",
        "[PAD3]",
        "▁a ▁",
        "e\u{301}",
        "It's 12345 o'clock, I'LL go",
        "ab ab  abc",
        "狐 jumps über",
        "<0x41>",
        "##ing un##able",
    ] {
        all.push(text.to_owned());
    }
    all
}

/// The tokenizers of the folder, of its file, and of its file without Vulpes's own key.
fn back(place: &Place) -> (Tokenizer, Tokenizer, Result<Tokenizer, String>) {
    let path = place.export(Format::Gguf, None, "a.gguf").unwrap_or_else(|error| panic!("{error}")).path;
    let file = File::open(&path).unwrap();
    let own = Tokenizer::from_folder(place.folder()).unwrap();
    let whole = read(file.keys(), "a.gguf").unwrap().unwrap();
    let mut keys = file.keys().clone();
    assert!(keys.remove(REST).is_some());
    let plain =
        read(&keys, "a.gguf").map(|found| found.unwrap().tokenizer).map_err(|error| error.to_string());
    (own, whole.tokenizer, plain)
}

fn same(what: &str, own: &Tokenizer, theirs: &Tokenizer, texts: &[String]) {
    for text in texts {
        let ids = |tokenizer: &Tokenizer| tokenizer.encode(text).map_err(|_| "refused");
        assert_eq!(ids(theirs), ids(own), "{what}: {text:?}");
        let Ok(ids) = ids(own) else { continue };
        let framed = |tokenizer: &Tokenizer| tokenizer.encode_framed(text, Some("a b"), None).unwrap();
        assert_eq!(framed(theirs), framed(own), "{what}: {text:?}, as a pair");
        for skip in [true, false] {
            assert_eq!(
                theirs.decode(&ids, skip).unwrap(),
                own.decode(&ids, skip).unwrap(),
                "{what}: {text:?}"
            );
        }
        let unknown = |tokenizer: &Tokenizer| tokenizer.encode_detailed(text, true).unwrap();
        assert_eq!(unknown(theirs), unknown(own), "{what}: {text:?}, in detail");
    }
    let tasks = |tokenizer: &Tokenizer| {
        // The closing special token is `eos` in the file, regardless of the folder.
        let own = (!tokenizer.has_frame()).then(|| (tokenizer.eos_id(), tokenizer.start_id()));
        (tokenizer.unk_id(), tokenizer.pad_id(), tokenizer.mask_id(), own)
    };
    assert_eq!(tasks(theirs), tasks(own), "{what}");
    assert_eq!(theirs.vocab_size(), own.vocab_size(), "{what}");
}

fn place(family: Family, n_ids: usize) -> Place {
    let head = if family == Family::Bert { Head::Hidden { pooler: false } } else { Head::NextToken };
    Place::new(&small(family).resolve(n_ids, head))
}

/// Whether a file by another program, without Vulpes's own key, is read the same.
#[derive(Clone, Copy, PartialEq)]
enum Others {
    Alike,
    Differ,
}

fn check(what: &str, place: &Place, others: Others) {
    let (own, whole, plain) = back(place);
    same(what, &own, &whole, &hard());
    if others == Others::Alike {
        same(&format!("{what}, without our key"), &own, &plain.unwrap(), &hard());
    }
}

#[test]
fn fixture_tokenizers_round_trip() {
    let json = |name: &str| std::fs::read(fixtures().join(name).join("tokenizer.json")).unwrap();
    check("bpe", &place(Family::Gpt2, 500).with("tokenizer.json", json("bpe")), Others::Alike);
    check("wordpiece", &place(Family::Bert, 200).with("tokenizer.json", json("wordpiece")), Others::Alike);
    for (folder, family, others) in [
        ("bert", Family::Bert, Others::Differ),
        ("bert-cased", Family::Bert, Others::Differ),
        ("gpt2", Family::Gpt2, Others::Alike),
        ("gpt2-added", Family::Gpt2, Others::Alike),
        // It normalizes to NFC, which llama.cpp doesn't.
        ("qwen2", Family::Gpt2, Others::Differ),
    ] {
        let mut place = place(family, 2000);
        for entry in std::fs::read_dir(fixtures().join("old").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !["encodings.json", "config.json"].contains(&name.as_str()) {
                place = place.with(&name, std::fs::read(&path).unwrap());
            }
        }
        check(folder, &place, others);
    }
}

/// Every kind that a run can train and GGUF can represent.
#[test]
fn trained_tokenizers_round_trip() {
    let texts =
        ["The quick brown fox jumps over the lazy dog.", "It's a fox, isn't it?", "e\u{301} über 狐 12345\n"];
    for (kind, family, others) in [
        (TokenizerKind::Char, Family::Gpt2, Others::Alike),
        (TokenizerKind::Bpe, Family::Gpt2, Others::Alike),
        (TokenizerKind::Wordpiece, Family::Bert, Others::Alike),
    ] {
        for lowercase in [None, Some(true)] {
            if lowercase.is_some() && kind != TokenizerKind::Wordpiece {
                continue;
            }
            let vocab_size = (kind != TokenizerKind::Char).then_some(280);
            let config = TokenizerConfig { kind, lowercase, vocab_size, ..TokenizerConfig::default() };
            let tokenizer = Tokenizer::train(&config, texts).unwrap();
            let place = place(family, 400).with("tokenizer.json", tokenizer.to_json());
            check(&format!("{kind:?}"), &place, others);
        }
    }
}

fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
           "special": true})
}

fn whole(
    added: &[Value],
    normalizer: Value,
    splitter: Value,
    frame: Value,
    decoder: Value,
    model: Value,
) -> String {
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
           "pre_tokenizer": splitter, "post_processor": frame, "decoder": decoder, "model": model})
    .to_string()
}

/// Byte-level BPE with every splitter.
#[test]
fn every_splitter_round_trips() {
    let bpe: Value =
        serde_json::from_slice(&std::fs::read(fixtures().join("bpe/tokenizer.json")).unwrap()).unwrap();
    for splitter in vulpes_data::gguf::SPLITTERS {
        for normalizer in [Value::Null, json!({"type": "NFC"})] {
            let mut json = bpe.clone();
            json["pre_tokenizer"] = splitter.to_json();
            json["normalizer"] = normalizer.clone();
            json["model"]["ignore_merges"] = json!(splitter.whole_words_first);
            let place = place(Family::Gpt2, 500).with("tokenizer.json", json.to_string());
            let others = if normalizer.is_null() { Others::Alike } else { Others::Differ };
            // By default llama.cpp adds `bos` for Llama 3; this file turns it off.
            check(splitter.name, &place, others);
        }
    }
}

/// The kind of Llama 2 and Gemma.
#[test]
fn sentencepiece_bpe_round_trips_with_its_merges() {
    let all: &[[&str; 2]] = &[["▁", "a"], ["a", "b"], ["▁a", "b"], ["▁", "ab"]];
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let older =
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace.clone()]});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    let frame = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    for (normalizer, splitter, merges, others) in [
        (older.clone(), Value::Null, all, Others::Alike),
        // llama.cpp also merges ▁ and ab, which this one doesn't.
        (older, Value::Null, &all[..3], Others::Differ),
        (Value::Null, metaspace("first"), all, Others::Differ),
        (Value::Null, metaspace("never"), all, Others::Differ),
        (
            replace,
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
            all,
            Others::Differ,
        ),
    ] {
        let mut vocabulary = json!({"<unk>": 0, "<s>": 1, "</s>": 2});
        for byte in 0..=255u8 {
            vocabulary[format!("<0x{byte:02X}>")] = json!(3 + usize::from(byte));
        }
        // In the order of the scores of their merges.
        for (number, text) in ["▁a", "ab", "▁ab", "▁", "a", "b"].iter().enumerate() {
            vocabulary[*text] = json!(259 + number);
        }
        let model = json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges});
        let added: Vec<Value> =
            ["<unk>", "<s>", "</s>"].iter().enumerate().map(|(id, text)| special(id, text)).collect();
        let json = whole(&added, normalizer, splitter.clone(), frame.clone(), decoder.clone(), model);
        check(&splitter.to_string(), &place(Family::Llama, 300).with("tokenizer.json", json), others);
    }
}

/// The kind of XLM-RoBERTa, with a mask token that is not a piece.
#[test]
fn unigram_tokenizers_round_trip() {
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let words =
        json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace.clone()]});
    let frame = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
            {"SpecialToken": {"id": "</s>", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}});
    let model = json!({"type": "Unigram", "unk_id": 1, "byte_fallback": false,
        "vocab": [["<s>", 0.0], ["<unk>", 0.0], ["</s>", 0.0], ["▁a", -1.5], ["b", -2.25], ["▁", -3.0], ["a", -2.5],
            ["ab", -2.75], ["e", -4.0], ["i", -4.5], ["▁i", -4.25], ["s", -5.0]]});
    let added = [special(0, "<s>"), special(1, "<unk>"), special(2, "</s>"), special(12, "<mask>")];
    for (splitter, others) in [(words, Others::Alike), (metaspace.clone(), Others::Alike)] {
        let json =
            whole(&added, Value::Null, splitter.clone(), frame.clone(), metaspace.clone(), model.clone());
        check(&splitter.to_string(), &place(Family::Bert, 40).with("tokenizer.json", json), others);
    }
}

#[test]
fn chat_template_and_end_tokens_round_trip() {
    let json = std::fs::read(fixtures().join("bpe/tokenizer.json")).unwrap();
    let config =
        json!({"eos_token": "<|endoftext|>", "chat_template": "{{ messages[0].content }}"}).to_string();
    let place = place(Family::Gpt2, 500).with("tokenizer.json", json).with("tokenizer_config.json", config);
    let path = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
    let mut keys = File::open(&path).unwrap().keys().clone();
    keys.insert("tokenizer.ggml.eot_token_id".into(), json!(7));
    let found = read(&keys, "a.gguf").unwrap().unwrap();
    assert_eq!(found.template.as_deref(), Some("{{ messages[0].content }}"));
    assert_eq!(found.end_ids, [0, 7]);
}

#[test]
fn invalid_keys_are_reported() {
    let json = std::fs::read(fixtures().join("bpe/tokenizer.json")).unwrap();
    let place = place(Family::Gpt2, 500).with("tokenizer.json", json);
    let path = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
    let keys = File::open(&path).unwrap().keys().clone();
    let error = |key: &str, value: Option<Value>| {
        let mut keys = keys.clone();
        keys.remove(REST);
        match value {
            Some(value) => keys.insert(format!("tokenizer.ggml.{key}"), value),
            None => keys.remove(&format!("tokenizer.ggml.{key}")),
        };
        read(&keys, "a.gguf").unwrap_err().to_string()
    };
    for (key, value, words) in [
        ("tokens", None, "has no list tokenizer.ggml.tokens"),
        ("tokens", Some(json!([1, 2])), "token_type has 500 entries for 2 tokens"),
        ("token_type", Some(json!(vec![9; 500])), "expected a number from 1 to 6"),
        ("pre", Some(json!("superbpe")), "\"superbpe\", which is not supported; expected one of gpt-2,"),
        ("model", Some(json!("rwkv")), "\"rwkv\", which is not supported; expected gpt2, llama, bert or t5"),
        ("merges", Some(json!(["ab"])), "not a pair"),
        ("merges", Some(json!(["zzz qqq"])), "zzz"),
        ("model", Some(json!("llama")), "has no list tokenizer.ggml.scores"),
    ] {
        let error = error(key, value);
        assert!(error.contains(words) && error.contains("a.gguf"), "{key}: {error}");
    }
    assert!(read(&serde_json::Map::new(), "a.gguf").unwrap().is_none());
}
