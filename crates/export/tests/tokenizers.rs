//! Tokenizers in GGUF: the supported kinds and the unsupported ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Gguf, N_IDS, Place, small};
use vulpes_export::{Format, Request, export};
use vulpes_model::Head;
use vulpes_model::config::Family;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers").join(name)
}

fn place(family: Family, n_ids: usize) -> Place {
    let head = if family == Family::Bert { Head::Hidden { pooler: false } } else { Head::NextToken };
    Place::new(&small(family).resolve(n_ids, head))
}

/// The file of a model with this `tokenizer.json`, and its notes.
fn with(family: Family, tokenizer: &Value) -> Result<(Gguf, Vec<String>), String> {
    let place = place(family, N_IDS).with("tokenizer.json", tokenizer.to_string());
    let exported = place.export(Format::Gguf, None, "a.gguf").map_err(|error| error.to_string())?;
    Ok((Gguf::open(&exported.path), exported.notes))
}

fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
           "special": true})
}

/// A complete file around a model.
fn whole(added: &[Value], normalizer: Value, splitter: Value, frame: Value, model: Value) -> Value {
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
           "pre_tokenizer": splitter, "post_processor": frame, "decoder": null, "model": model})
}

/// A byte-level BPE over "a", "b" and a space, split as in `splitter`.
fn bytes(normalizer: Value, splitter: Value, whole_words_first: bool) -> Value {
    let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole_words_first,
        "vocab": {"<|end|>": 0, "a": 1, "b": 2, "Ġ": 3, "Ġa": 4, "Ġab": 5}, "merges": [["Ġ", "a"], ["Ġa", "b"]]});
    whole(&[special(0, "<|end|>")], normalizer, splitter, Value::Null, model)
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

#[test]
fn byte_level_bpe_exports_tokens_and_merges() {
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("bpe/tokenizer.json")).unwrap()).unwrap();
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let n = vocabulary.len();
    let config = json!({"eos_token": "<|endoftext|>", "chat_template": "{{ messages }}"}).to_string();
    let place = place(Family::Gpt2, n + 3).with("tokenizer.json", json.to_string());
    let (_, read) = place.with("tokenizer_config.json", config).gguf(None);
    assert_eq!(read.key("tokenizer.ggml.model"), "String(\"gpt2\")");
    assert_eq!(read.key("tokenizer.ggml.pre"), "String(\"gpt-2\")");
    let tokens = read.texts("tokenizer.ggml.tokens");
    assert_eq!(tokens.len(), n + 3);
    for (text, id) in vocabulary {
        assert_eq!(&tokens[id.as_u64().unwrap() as usize], text);
    }
    assert_eq!(
        tokens[n + 1..],
        [format!("[PAD{}]", n + 1), format!("[PAD{}]", n + 2)],
        "rows without a token"
    );
    let kinds = read.key("tokenizer.ggml.token_type");
    assert!(
        kinds.starts_with("Array([I32(3), I32(1), ") && kinds.ends_with("I32(1), I32(5), I32(5), I32(5)])")
    );
    let merges = read.texts("tokenizer.ggml.merges");
    assert_eq!(merges.len(), json["model"]["merges"].as_array().unwrap().len());
    let first = &json["model"]["merges"][0];
    let first = first.as_str().map_or_else(
        || format!("{} {}", first[0].as_str().unwrap(), first[1].as_str().unwrap()),
        str::to_owned,
    );
    assert_eq!(merges[0], first);
    assert_eq!(read.key("tokenizer.ggml.eos_token_id"), "U32(0)");
    // config.json's own, as in the folder of a trained model.
    assert_eq!(read.key("tokenizer.ggml.bos_token_id"), "U32(1)");
    assert_eq!(read.key("tokenizer.ggml.add_bos_token"), "Bool(false)");
    assert_eq!(read.key("tokenizer.chat_template"), "String(\"{{ messages }}\")");
}

#[test]
fn splitters_have_llama_cpps_names() {
    let split = |pattern: &str| {
        let split =
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]})
    };
    let llama = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let qwen = llama.replace("{1,3}", "");
    let digits = json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level(true)]});
    for (splitter, whole_words_first, name) in [
        (byte_level(true), false, "gpt-2"),
        (digits, false, "smollm"),
        (split(llama), true, "llama-bpe"),
        (split(llama), false, "dbrx"),
        (split(&qwen), false, "qwen2"),
    ] {
        let (read, notes) =
            with(Family::Llama, &bytes(Value::Null, splitter.clone(), whole_words_first)).unwrap();
        assert_eq!(read.key("tokenizer.ggml.pre"), format!("String({name:?})"));
        assert_eq!(notes, Vec::<String>::new());
        let (_, notes) =
            with(Family::Llama, &bytes(json!({"type": "NFC"}), splitter, whole_words_first)).unwrap();
        assert!(notes[0].contains("NFC"), "{notes:?}");
    }
    let blank =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    for (splitter, words) in [
        (split(r"\w+"), r#""Regex":"\\w+""#),
        (blank, "space before a text"),
        (Value::Null, "splitter: none"),
        (json!({"type": "Whitespace"}), "Whitespace"),
    ] {
        let error = with(Family::Llama, &bytes(Value::Null, splitter, false)).err().unwrap();
        assert!(error.contains(words) && error.contains("--no-tokenizer"), "{words}: {error}");
    }
    let error =
        with(Family::Llama, &bytes(json!({"type": "Lowercase"}), byte_level(true), false)).err().unwrap();
    assert!(error.contains("its normalizer is Lowercase"), "{error}");
}

/// Llama 2's: merges to scores.
fn pieces(merges: &[[&str; 2]], splitter: Value) -> Value {
    let mut vocabulary = json!({"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "<0x61>": 4});
    for (number, text) in ["▁a", "ab", "▁ab", "▁", "a", "b"].iter().enumerate() {
        vocabulary[text] = json!(5 + number);
    }
    let model = json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
        "vocab": vocabulary, "merges": merges});
    let frame = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    let normalizer = match &splitter {
        Value::Null => json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}),
        splitter if splitter["type"] == "Split" => {
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
        }
        _ => Value::Null,
    };
    let added: Vec<Value> =
        ["<unk>", "<s>", "</s>"].iter().enumerate().map(|(id, text)| special(id, text)).collect();
    whole(&added, normalizer, splitter, frame, model)
}

const MERGES: &[[&str; 2]] = &[["▁", "a"], ["a", "b"], ["▁a", "b"], ["▁", "ab"]];

#[test]
fn sentencepiece_scores_follow_the_order_of_merges() {
    let (read, notes) = with(Family::Llama, &pieces(MERGES, Value::Null)).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(read.key("tokenizer.ggml.model"), "String(\"llama\")");
    assert_eq!(read.texts("tokenizer.ggml.tokens")[3..7], ["<0x0A>", "<0x61>", "▁a", "ab"]);
    let scores = read.key("tokenizer.ggml.scores");
    assert!(
        scores.starts_with(
            "Array([F32(0.0), F32(0.0), F32(0.0), F32(0.0), F32(0.0), F32(-0.0), F32(-1.0), F32(-2.0), F32(-3.0), F32(-4.0), F32(-5.0)"
        ),
        "{scores}"
    );
    let kinds = read.key("tokenizer.ggml.token_type");
    assert!(kinds.starts_with("Array([I32(2), I32(3), I32(3), I32(6), I32(6), I32(1)"), "{kinds}");
    assert_eq!(read.key("tokenizer.ggml.add_bos_token"), "Bool(true)");
    assert_eq!(read.key("tokenizer.ggml.bos_token_id"), "U32(1)");
    assert_eq!(read.key("tokenizer.ggml.eos_token_id"), "U32(2)");
    assert_eq!(read.key("tokenizer.ggml.unknown_token_id"), "U32(0)");
    assert_eq!(read.key("tokenizer.ggml.add_space_prefix"), "Bool(true)");

    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let gemmas = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
    for (splitter, puts) in [(metaspace("first"), true), (metaspace("never"), false), (gemmas, false)] {
        let (read, _) = with(Family::Llama, &pieces(MERGES, splitter)).unwrap();
        assert_eq!(read.key("tokenizer.ggml.add_space_prefix"), format!("Bool({puts})"));
    }
    // llama.cpp joins ▁ and ab, too, which this tokenizer never does.
    let (_, notes) = with(Family::Llama, &pieces(&MERGES[..3], Value::Null)).unwrap();
    assert!(notes[0].contains("\"▁\" + \"ab\" = \"▁ab\""), "{notes:?}");
    let error = with(Family::Llama, &pieces(MERGES, json!({"type": "Whitespace"}))).err().unwrap();
    assert!(error.contains("this step before its pieces") && error.contains("Whitespace"), "{error}");
}

#[test]
fn wordpieces_at_the_beginning_of_words_are_marked() {
    let file = fixture("wordpiece/tokenizer.json");
    let json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let n_ids = json["model"]["vocab"].as_object().unwrap().len();
    let (_, read) = place(Family::Bert, n_ids).with("tokenizer.json", json.to_string()).gguf(None);
    assert_eq!(read.key("tokenizer.ggml.model"), "String(\"bert\")");
    let tokens = read.texts("tokenizer.ggml.tokens");
    for (text, id) in json["model"]["vocab"].as_object().unwrap() {
        let wanted = match text.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if text.starts_with('[') && text.len() > 2 => text.clone(),
            None => format!("▁{text}"),
        };
        assert_eq!(tokens[id.as_u64().unwrap() as usize], wanted);
    }
    let id = |text: &str| format!("U32({})", json["model"]["vocab"][text]);
    for (key, text) in
        [("bos", "[CLS]"), ("cls", "[CLS]"), ("eos", "[SEP]"), ("seperator", "[SEP]"), ("unknown", "[UNK]")]
    {
        assert_eq!(read.key(&format!("tokenizer.ggml.{key}_token_id")), id(text), "{key}");
    }
    let small = json["normalizer"]["lowercase"].as_bool().unwrap();
    assert_eq!(read.key("tokenizer.ggml.normalizer.lowercase"), format!("Bool({small})"));
    assert_eq!(read.key("tokenizer.ggml.add_eos_token"), "Bool(true)");
    let n_types = read.key("tokenizer.ggml.token_type_count");
    assert_eq!(n_types, "U32(2)");
}

/// Tokenizers without `tokenizer.json` are exported as well.
#[test]
fn older_tokenizers_are_exported() {
    for (folder, family, model) in
        [("bert", Family::Bert, "bert"), ("gpt2", Family::Gpt2, "gpt2"), ("qwen2", Family::Gpt2, "gpt2")]
    {
        let mut place = place(family, 2000);
        for entry in std::fs::read_dir(fixture("old").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name != "encodings.json" {
                place = place.with(&name, std::fs::read(&path).unwrap());
            }
        }
        let (_, read) = place.gguf(None);
        assert_eq!(read.key("tokenizer.ggml.model"), format!("String({model:?})"), "{folder}");
    }
}

#[test]
fn unsupported_tokenizers_are_refused_or_left_out() {
    let word: Value =
        serde_json::from_slice(&std::fs::read(fixture("word/tokenizer.json")).unwrap()).unwrap();
    let place = place(Family::Gpt2, 4000).with("tokenizer.json", word.to_string());
    let error = place.export(Format::Gguf, None, "a.gguf").unwrap_err().to_string();
    for words in ["GGUF can't represent", "WordLevel", "data.tokenizer.kind = \"bpe\"", "--no-tokenizer"] {
        assert!(error.contains(words), "{error}");
    }
    assert!(!place.out("a.gguf").exists());
    let out = place.out("a.gguf");
    let folder = place.folder();
    let request = Request {
        model: &folder.as_path().into(),
        name: "a".into(),
        format: Format::Gguf,
        dtype: None,
        with_tokenizer: false,
        out: &out,
        stop: &|| false,
    };
    let exported = export(&request).unwrap();
    assert_eq!(exported.notes, Vec::<String>::new(), "no note if requested");
    assert_eq!(Gguf::open(&out).key("tokenizer.ggml.model"), "String(\"none\")");
}

/// XLM-RoBERTa's kind: log-probabilities unchanged, the table of letters as bytes, words split at whitespace first.
#[test]
fn unigrams_are_exported_with_scores_and_charsmap() {
    let unigram = |fallback: bool| {
        json!({"type": "Unigram", "unk_id": 1, "byte_fallback": fallback,
            "vocab": [["<s>", 0.0], ["<unk>", 0.0], ["\u{2581}a", -1.5], ["b", -2.25]]})
    };
    let metaspace =
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let words =
        json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace.clone()]});
    let of = |normalizer: &Value, splitter: &Value, fallback: bool| {
        let added = [special(0, "<s>"), special(1, "<unk>")];
        with(
            Family::Bert,
            &whole(&added, normalizer.clone(), splitter.clone(), Value::Null, unigram(fallback)),
        )
    };
    let (read, _) = of(&Value::Null, &words, false).unwrap();
    assert_eq!(read.key("tokenizer.ggml.model"), "String(\"t5\")");
    assert_eq!(read.texts("tokenizer.ggml.tokens")[..4], ["<s>", "<unk>", "\u{2581}a", "b"]);
    assert_eq!(read.numbers("tokenizer.ggml.token_type")[..4], [3.0, 2.0, 1.0, 1.0]);
    assert_eq!(read.numbers("tokenizer.ggml.scores")[..5], [0.0, 0.0, -1.5, -2.25, -10_000.0]);
    assert_eq!(read.key("tokenizer.ggml.add_space_prefix"), "Bool(true)");
    assert_eq!(read.key("tokenizer.ggml.remove_extra_whitespaces"), "Bool(true)");
    let (read, _) = of(&Value::Null, &metaspace, false).unwrap();
    assert_eq!(read.key("tokenizer.ggml.remove_extra_whitespaces"), "Bool(false)");
    for (normalizer, splitter, fallback, wanted) in [
        (&json!({"type": "Lowercase"}), &words, false, "this step before its unigrams"),
        (&Value::Null, &json!({"type": "WhitespaceSplit"}), false, "spaces stay spaces"),
        (&Value::Null, &words, true, "falls back to bytes"),
    ] {
        let error = of(normalizer, splitter, fallback).err().unwrap();
        assert!(error.contains(wanted), "{error}");
    }
}

/// Letters are exported as bytes that are joined to letters.
#[test]
fn a_vocabulary_of_letters_becomes_a_byte_level_bpe() {
    let model = |vocabulary: Value| {
        json!({"type": "BPE", "dropout": null, "unk_token": "<?>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": []})
    };
    let letters = json!({"<?>": 0, "a": 1, " ": 2, "\n": 3, "é": 4, "狐": 5});
    let of = |letters, splitter| {
        with(Family::Gpt2, &whole(&[special(0, "<?>")], Value::Null, splitter, Value::Null, model(letters)))
    };
    let (read, notes) = of(letters.clone(), Value::Null).unwrap();
    assert_eq!(read.key("tokenizer.ggml.model"), "String(\"gpt2\")");
    assert_eq!(read.texts("tokenizer.ggml.tokens")[..6], ["<?>", "a", "Ġ", "Ċ", "Ã©", "çĭĲ"]);
    assert_eq!(read.texts("tokenizer.ggml.merges"), ["Ã ©", "ç ĭ", "çĭ Ĳ", "À Á"]);
    assert!(notes[0].contains("skips letters") && notes[0].contains("<?>"), "{notes:?}");
    let error = of(json!({"<?>": 0, "ab": 1}), Value::Null).err().unwrap();
    assert!(error.contains("no merges that make \"ab\""), "{error}");
    let error = of(letters, json!({"type": "Whitespace"})).err().unwrap();
    assert!(error.contains("single letters and a pre_tokenizer"), "{error}");
}
