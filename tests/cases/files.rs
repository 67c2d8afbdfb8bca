//! Corpus files with misleading contents, and long ones.

use serde_json::json;

use super::{PAIRS, edit, place};
use crate::support::{Place, peak_kb};

/// Misleading tables and texts, each reported with its location and actual content.
#[test]
fn faults_of_files_are_reported_with_their_location() {
    let place = Place::new();
    let words = "[model]\nfamily = \"gpt2\"\nn_layer = 1\nn_head = 1\nd_model = 8\ncontext_len = 8\n[train]\nsteps = 1\n";
    let labels =
        words.replace("gpt2", "bert").replace("[train]", "[objective]\nkind = \"classify\"\n[train]");
    let rows = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let x = "{\"text\": \"a b\", \"label\": \"x\"}";
    let of_labels = [
        ("csv", rows(&["text,label", "a b,x", "c d,y", "e f,"]), "t.csv:4: column \"label\" is empty"),
        ("jsonl", rows(&[x, "{\"text\": \"c\", \"label\": \" \"}"]), "t.jsonl:2: column \"label\" is empty"),
        ("jsonl", rows(&[x, x]), "data.train: has one label only, \"x\""),
        (
            "jsonl",
            rows(&["{\"text\": \"a\", \"label\": 1}", "{\"text\": \"b\", \"label\": 1.0}"]),
            "only, \"1\"",
        ),
        ("csv", rows(&["text,label", "a b,2", "c d,2.0"]), "only, \"2\""),
        ("jsonl", rows(&[x, "{\"label\": \"y\"}"]), "t.jsonl:2: no column \"text\""),
        ("jsonl", rows(&[x, "{\"text\": \"\\ud83d\", \"label\": \"y\"}"]), "t.jsonl:2: a lone surrogate"),
    ];
    let open = rows(&["text", "a b c d e f", "\"oops", "g h"]);
    let closed = rows(&["text", "\"a \"\"b\"\" c\",", "x"]);
    let of_words = [
        ("csv", open.clone(), "t.csv:3: a quote opens here and is never closed"),
        ("csv", open.replace("oops", "o\"\"ops"), "t.csv:3: a quote opens here"),
        ("csv", closed, "t.csv:2: 2 fields"),
        ("text", "version https://git-lfs.github.com/spec/v1\noid".to_owned(), "git lfs pull"),
    ];
    let cases = of_labels.iter().map(|case| (labels.as_str(), case));
    for (config, (kind, content, wanted)) in cases.chain(of_words.iter().map(|case| (words, case))) {
        place.write("c.toml", config);
        place.write(&format!("t.{kind}"), content);
        let sets = [format!("data.kind={kind}"), format!("data.train=t.{kind}")];
        let args = ["--config", "c.toml", "--out", "run", "--set", &sets[0], "--set", &sets[1]];
        let said = place.train(&args);
        assert!(said.code != 0 && said.stderr.contains(wanted), "{wanted:?} is not in\n{}", said.stderr);
    }
    place.write("t.gz", b"\x1f\x8b\x08\0\0");
    place.write("c.toml", words);
    place
        .train(&["--config", "c.toml", "--set", "data.train=t.gz"])
        .fails(2, &["t.gz is compressed with gzip", "gunzip"]);
}

/// One document of 12 MB with the pre-tokenizer of Llama 3, whose pattern has no known safe split points.
#[cfg(target_os = "linux")]
#[test]
fn a_long_document_needs_little_memory() {
    let place = place("gpt2", PAIRS);
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    edit(&place, "tokenizer.json", |tokenizer| {
        tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]});
    });
    place.write("long.txt", "The quick brown fox jumps over the lazy dog. ".repeat(12_000_000 / 45));
    let sets =
        ["data.train=long.txt", "data.document=file", "data.rows=windows", "data.validation_fraction=0"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> =
        ["--config", "further.toml", "--out", "run", "--quiet"].into_iter().chain(sets).collect();
    let most_kb = peak_kb(place.start(&args));
    assert!((1_000..300_000).contains(&most_kb), "{most_kb} kB");
}
