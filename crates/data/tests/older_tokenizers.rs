//! Tokenizers without `tokenizer.json`: ids, frames and decoded texts equal those of transformers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use vulpes_data::Tokenizer;

fn old() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizers/old")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn older_tokenizers_equal_transformers() {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(old()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 5);
    for folder in folders {
        let what = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(Tokenizer::is_in(&folder), "{what}");
        let tokenizer = Tokenizer::from_folder(&folder).unwrap_or_else(|error| panic!("{what}: {error}"));
        let golden = json(&folder.join("encodings.json"));
        for row in golden["rows"].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let ids: Vec<u32> =
                row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(tokenizer.encode_detailed(text, true).unwrap().ids, ids, "{what}: {text:?}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), row["decoded"], "{what}: {text:?}");
        }
        let special = |key: &str| golden["special"][key].as_u64().map(|id| id as u32);
        assert_eq!(tokenizer.pad_id(), special("pad_token"), "{what}");
        assert_eq!(tokenizer.mask_id(), special("mask_token"), "{what}");
        // It is saved as one file that holds the same tokenizer.
        let out = tempfile::tempdir().unwrap();
        tokenizer.save(out.path().join("tokenizer.json")).unwrap();
        let again = Tokenizer::from_folder(out.path()).unwrap();
        assert_eq!(again.to_json(), tokenizer.to_json(), "{what}");
    }
}

#[test]
fn unsupported_tokenizer_class_is_reported() {
    let out = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt"] {
        std::fs::copy(old().join("gpt2").join(file), out.path().join(file)).unwrap();
    }
    let refused = |class: &str| {
        let config = serde_json::json!({"tokenizer_class": class}).to_string();
        std::fs::write(out.path().join("tokenizer_config.json"), config).unwrap();
        Tokenizer::from_folder(out.path()).unwrap_err().to_string()
    };
    assert!(refused("CLIPTokenizer").contains("tokenizer_class = \"CLIPTokenizer\" is not read from it"));
    assert!(refused("BertTokenizer").contains("BertTokenizer and MPNetTokenizer are read from vocab.txt"));
    // A vocabulary without merges is not a tokenizer.
    std::fs::remove_file(out.path().join("merges.txt")).unwrap();
    assert_eq!(Tokenizer::older_in(out.path()), Some("vocab.json"));
    assert!(!Tokenizer::is_in(out.path()));
}
