//! Comparison with Python's tokenizers: tricky strings under small and large tokenizers, and a corpus.
//!
//! The small ones are in `tests/fixtures`; the larger ones are read from the folder that `VULPES_SHARED` names, else
//! from `../shared` next to the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use vulpes_data::{
    Cursor, DataConfig, Dataset, ObjectiveConfig, OpenOptions, Paths, Tokenizer, TokenizerConfig,
    TokenizerKind,
};

/// A file or folder of `../shared`, which must be there.
fn shared(path: &str) -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let path = std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from).join(path);
    assert!(path.exists(), "{} is not here; VULPES_SHARED names its folder", path.display());
    path
}

fn read(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// Checks a tokenizer against the golden rows of a text.
fn check(tokenizer: &Tokenizer, rows: &Value, framed: bool) {
    let rows = rows.as_array().unwrap();
    assert!(rows.len() >= 5);
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let encoded = tokenizer.encode_detailed(text, framed).unwrap();
        assert_eq!(encoded.ids, numbers::<Vec<u32>>(&row["ids"]), "{text:?}");
        assert_eq!(encoded.tokens, numbers::<Vec<String>>(&row["tokens"]), "{text:?}");
        assert_eq!(encoded.offsets, numbers::<Vec<(usize, usize)>>(&row["byte_offsets"]), "{text:?}");
        assert_eq!(encoded.type_ids, numbers::<Vec<u32>>(&row["type_ids"]), "{text:?}");
        assert_eq!(
            tokenizer.decode(&encoded.ids, false).unwrap(),
            row["decoded"].as_str().unwrap(),
            "{text:?}"
        );
        let skipped = row["decoded_skip_special"].as_str().unwrap();
        assert_eq!(tokenizer.decode(&encoded.ids, true).unwrap(), skipped, "{text:?}");
        if !framed {
            assert_eq!(tokenizer.encode(text).unwrap(), encoded.ids, "{text:?}");
        }
        let mut stream = tokenizer.decode_stream(true);
        let mut streamed: String = encoded.ids.iter().filter_map(|&id| stream.push(id).unwrap()).collect();
        streamed += &stream.finish().unwrap();
        assert_eq!(streamed, skipped, "{text:?}");
    }
}

/// Checks that the strings of `rows`, twice, have the tokens of the rows in shard files.
fn check_in_shards(folder: &Path, rows: &str) {
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let golden = read(folder.join(rows));
    let place = tempfile::tempdir().unwrap();
    let (mut lines, mut wanted) = (String::new(), Vec::<u32>::new());
    for row in golden.as_array().unwrap().iter().chain(golden.as_array().unwrap()) {
        lines += &serde_json::json!({ "text": row["text"] }).to_string();
        lines.push('\n');
        let ids = numbers::<Vec<u32>>(&row["ids"]);
        wanted.extend(ids);
        // BERT's frame ends with the end token.
        wanted.extend(tokenizer.eos_id().filter(|_| !tokenizer.has_frame()));
    }
    std::fs::write(place.path().join("tricky.jsonl"), lines).unwrap();
    let data = DataConfig {
        kind: vulpes_data::DataKind::Jsonl,
        train: Paths(vec![place.path().join("tricky.jsonl").display().to_string()]),
        shuffle: false,
        tokenizer: TokenizerConfig {
            kind: TokenizerKind::File,
            path: Some(folder.display().to_string()),
            ..TokenizerConfig::default()
        },
        ..DataConfig::default()
    };
    let options = OpenOptions::new(1, 1);
    let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options).unwrap();
    assert_eq!(dataset.n_tokens(), wanted.len() as u64, "{}", folder.display());
    let found = dataset.batch(Cursor::default(), wanted.len() - 1).unwrap().ids;
    assert_eq!(found, wanted[..wanted.len() - 1], "{}", folder.display());
}

/// Checks that framed pairs of texts have the ids and types of the rows.
fn check_pairs(folder: &Path, rows: &str) {
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    for row in read(folder.join(rows)).as_array().unwrap() {
        let texts: Vec<String> = numbers(&row["text"]);
        let (ids, types) = tokenizer.encode_framed(&texts[0], Some(&texts[1]), None).unwrap();
        assert_eq!(ids, numbers::<Vec<u32>>(&row["ids"]), "{texts:?}");
        assert_eq!(types, numbers::<Vec<u32>>(&row["type_ids"]), "{texts:?}");
    }
}

fn small(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tokenizers")).join(name)
}

#[test]
fn tricky_strings_are_equal_under_small_tokenizers() {
    for (name, framed, rows) in [
        ("bpe", false, "encodings.json"),
        ("word", false, "encodings.json"),
        ("wordpiece", true, "framed.json"),
        ("wordpiece", false, "encodings.json"),
    ] {
        let folder = small(name);
        check(&Tokenizer::from_folder(&folder).unwrap(), &read(folder.join(rows)), framed);
    }
}

/// The same strings as a corpus: cut into pieces, each looked up or encoded, all of them twice.
#[test]
fn tricky_strings_become_the_same_tokens_in_shards_of_small_tokenizers() {
    for (name, rows) in [("bpe", "encodings.json"), ("word", "encodings.json"), ("wordpiece", "framed.json")]
    {
        check_in_shards(&small(name), rows);
    }
}

#[test]
fn pairs_are_framed_as_by_the_tokenizers_package() {
    check_pairs(&small("wordpiece"), "pairs.json");
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn tricky_strings_are_equal_under_four_tokenizers() {
        for (name, framed, rows) in [
            ("bpe512", false, "encodings.json"),
            ("gpt2", false, "encodings.json"),
            ("wordlevel", false, "encodings.json"),
            ("wordpiece", true, "encodings.json"),
            ("wordpiece", false, "encodings_nospecial.json"),
        ] {
            let folder = shared(&format!("tokenizers/{name}"));
            check(&Tokenizer::from_folder(&folder).unwrap(), &read(folder.join(rows)), framed);
        }
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn tricky_strings_become_the_same_tokens_in_shards() {
        for (name, rows) in [
            ("bpe512", "encodings.json"),
            ("gpt2", "encodings.json"),
            ("wordlevel", "encodings.json"),
            ("wordpiece", "encodings.json"),
        ] {
            check_in_shards(&shared(&format!("tokenizers/{name}")), rows);
        }
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn pairs_are_framed_as_by_the_tokenizers_package() {
        check_pairs(&shared("tokenizers/wordpiece"), "encodings_pairs.json");
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn sharded_corpus_has_the_tokens_of_the_text() {
        let (text, folder) = (shared("corpora/tinyshakespeare.txt"), shared("tokenizers/bpe512"));
        let cache = tempfile::tempdir().unwrap();
        let data = DataConfig {
            train: Paths(vec![text.display().to_string()]),
            shuffle: false,
            cache: Some(cache.path().display().to_string()),
            tokenizer: TokenizerConfig {
                kind: TokenizerKind::File,
                path: Some(folder.display().to_string()),
                ..TokenizerConfig::default()
            },
            ..DataConfig::default()
        };
        let options = OpenOptions::new(100, 1);
        let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options).unwrap();
        let golden = read(folder.join("corpus.json"));
        let mut whole: Vec<u32> =
            Tokenizer::from_folder(&folder).unwrap().encode(&std::fs::read_to_string(text).unwrap()).unwrap();
        assert_eq!(whole.len() as u64, golden["n_tokens"].as_u64().unwrap());
        assert_eq!(whole[..64], numbers::<Vec<u32>>(&golden["first_64"]));
        assert_eq!(whole[whole.len() - 16..], numbers::<Vec<u32>>(&golden["last_16"]));
        whole.push(dataset.tokenizer().unwrap().eos_id().unwrap());
        assert_eq!(dataset.n_tokens(), whole.len() as u64);
        let n = dataset.n_rows() as usize;
        assert_eq!(dataset.batch(Cursor::default(), n).unwrap().ids, whole[..n * 100]);
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn trained_merges_equal_the_tokenizers_package() {
        let text = shared("corpora/tinyshakespeare.txt");
        let golden = shared("tokenizers/bpe512/tokenizer.json");
        let text = std::fs::read_to_string(text).unwrap();
        let config =
            TokenizerConfig { kind: TokenizerKind::Bpe, vocab_size: Some(514), ..TokenizerConfig::default() };
        let ours: Value =
            serde_json::from_str(Tokenizer::train(&config, [text.as_str()]).unwrap().to_json()).unwrap();
        let golden = read(golden);
        assert_eq!(ours["model"]["merges"], golden["model"]["merges"]);
    }
}

mod needs_tokenizers {
    use super::*;

    /// Python reads each kind's `tokenizer.json`: same ids, same text.
    #[test]
    #[ignore = "needs VULPES_PYTHON with tokenizers"]
    fn tokenizers_package_reads_what_we_train() {
        let python =
            std::env::var_os("VULPES_PYTHON").expect("VULPES_PYTHON names a Python with `tokenizers`");
        let folder = tempfile::tempdir().unwrap();
        let corpus = vulpes_data::embedded("fox.txt").unwrap();
        let texts =
            ["The quick brown fox jumps over the lazy dog.", "Über-fox's 狐 [MASK] (it) \"flies\"\n  twice"];
        for kind in [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece] {
            let config = TokenizerConfig { kind, ..TokenizerConfig::default() };
            let tokenizer = Tokenizer::train(&config, corpus.lines()).unwrap();
            let path = folder.path().join("tokenizer.json");
            tokenizer.save(&path).unwrap();
            let script = "import sys, json, tokenizers\n\
            t = tokenizers.Tokenizer.from_file(sys.argv[1])\n\
            e = [t.encode(text) for text in json.loads(sys.argv[2])]\n\
            print(json.dumps([[x.ids, t.decode(x.ids, skip_special_tokens=False)] for x in e]))";
            let output = std::process::Command::new(&python)
                .args(["-c", script])
                .arg(&path)
                .arg(serde_json::to_string(&texts).unwrap())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let theirs: Vec<(Vec<u32>, String)> = serde_json::from_slice(&output.stdout).unwrap();
            let ours = texts.map(|text| {
                let ids = tokenizer.encode_detailed(text, true).unwrap().ids;
                let text = tokenizer.decode(&ids, false).unwrap();
                (ids, text)
            });
            assert_eq!(theirs, ours, "{kind:?}");
        }
    }
}
