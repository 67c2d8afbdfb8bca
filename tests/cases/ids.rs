//! A text has the same ids in training and in use.

use serde_json::{Value, json};

use super::{LINES, PAIRS, edit, further, ids_of, place, put_bos, sample};
use crate::support::Place;

/// Loss of the first step, and the number of tokens that it reads.
fn first_step(place: &Place, sets: &[&str]) -> (f64, u64) {
    further(place, sets).succeeds();
    let metrics = place.read("run/metrics.jsonl");
    let step: Value = serde_json::from_str(metrics.lines().next().expect("a step")).expect("JSON");
    (step["loss"].as_f64().expect("a loss"), step["tokens"].as_u64().expect("targets"))
}

/// The same step on rows of ids given by hand: `before`, the line's own ids, `after`.
fn by_hand(place: &Place, before: &[u64], after: &[u64]) -> (f64, u64) {
    let rows: String = LINES
        .lines()
        .map(|line| {
            let mut ids = before.to_vec();
            ids.extend(ids_of(place, line).into_iter().skip_while(|id| before == [*id]));
            ids.extend(after);
            format!("{}\n", json!({ "input_ids": ids }))
        })
        .collect();
    place.write("rows.jsonl", rows);
    let sets = ["data.kind=ids", "data.train=rows.jsonl", "data.document=file"];
    let (loss, n_tokens) = first_step(place, &sets);
    // The last token of a row of ids is read, although it has no target.
    (loss, n_tokens - LINES.lines().count() as u64)
}

#[test]
fn a_document_without_a_frame_starts_and_ends_with_the_end_token() {
    let place = place("gpt2", PAIRS);
    let (loss, n_targets) = first_step(&place, &[]);
    assert_eq!((loss, n_targets), by_hand(&place, &[0], &[0]));
    assert_eq!(ids_of(&place, ""), [0], "an unprompted text starts as a document does");
    let typed = ids_of(&place, "The quick<|endoftext|>");
    assert_eq!((typed.last(), typed.len()), (Some(&0), ids_of(&place, "The quick").len() + 1));
}

#[test]
fn documents_have_the_same_frame_as_prompts() {
    let place = place("llama", PAIRS);
    edit(&place, "tokenizer.json", put_bos);
    assert_eq!(ids_of(&place, "")[..], [3]);
    assert_eq!(ids_of(&place, "The")[0], 3);
    let found = first_step(&place, &[]);
    assert_eq!(found, by_hand(&place, &[3], &[0]));
    // In a stream, too: three documents of equal length.
    let plan = |rows: &str| {
        let set = format!("data.rows={rows}");
        let args =
            ["--config", "further.toml", "--set", &set, "--set", "train.max_len=8", "--dry-run", "--json"];
        place.train(&args).succeeds().json()["train_tokens"].clone()
    };
    assert_eq!((plan("windows"), plan("documents")), (json!(found.1 + 3), json!(found.1 + 3)));
    let said = sample(&place, &["--model", "base", "--prompt", "<s>The", "--next", "1"]);
    assert!(said.succeeds().stderr.contains("puts <s> before every text"), "{}", said.stderr);
}

#[test]
fn masked_words_over_a_stream_have_the_frame_too() {
    let place = place("bert", "kind = \"wordpiece\"");
    let args = ["--config", "further.toml", "--set", "train.max_len=8", "--dry-run", "--json", "--set"];
    let tokens =
        |rows: &str| place.train(&[&args[..], &[rows]].concat()).succeeds().json()["train_tokens"].clone();
    assert_eq!(tokens("data.rows=windows"), tokens("data.rows=documents"));
}

#[test]
fn special_tokens_are_those_that_the_folder_gives_by_id() {
    let place = place("llama", PAIRS);
    edit(&place, "config.json", |config| config["eos_token_id"] = json!([4, 0]));
    edit(&place, "generation_config.json", |config| config["bos_token_id"] = json!(3));
    assert_eq!(first_step(&place, &[]), by_hand(&place, &[3], &[4]));
    assert_eq!(ids_of(&place, ""), [3]);
    edit(&place, "tokenizer_config.json", |config| config["eos_token"] = json!("<|im_start|>"));
    assert_eq!(first_step(&place, &[]), by_hand(&place, &[3], &[5]), "a name takes precedence over an id");
    assert_eq!(first_step(&place, &["data.tokenizer.eos=<|stop|>"]), by_hand(&place, &[3], &[4]));
    edit(&place, "tokenizer.json", |tokenizer| {
        let text = tokenizer.to_string().replace("<|endoftext|>", "<|zero|>");
        *tokenizer = serde_json::from_str(&text).expect("JSON");
    });
    std::fs::remove_file(place.path("base/model/tokenizer_config.json")).expect("a file");
    edit(&place, "config.json", |config| config["eos_token_id"] = Value::Null);
    edit(&place, "generation_config.json", |config| config["eos_token_id"] = Value::Null);
    let said = further(&place, &[]);
    assert!(said.succeeds().stderr.contains("has no end token"), "{}", said.stderr);
}

#[test]
fn tokens_that_only_the_tokenizer_config_names_are_added() {
    let place = place("gpt2", &PAIRS.replace(", \"<|im_start|>\"", ""));
    edit(&place, "tokenizer_config.json", |config| {
        config["additional_special_tokens"] = json!(["<|im_start|>"]);
    });
    let said = sample(&place, &["--model", "base", "--prompt", "<|im_start|>", "--next", "1"]);
    assert!(said.succeeds().stderr.contains("names <|im_start|>, for which"), "{}", said.stderr);
    let wider = place.read("tiny.toml").replace("[model]", "[model]\nvocab_size = 267");
    place.write("tiny.toml", wider);
    std::fs::remove_dir_all(place.path("base")).expect("a folder");
    place.train(&["--config", "tiny.toml", "--out", "base", "--quiet"]).succeeds();
    edit(&place, "tokenizer_config.json", |config| {
        config["additional_special_tokens"] = json!(["<|im_start|>"]);
    });
    assert_eq!(ids_of(&place, "<|im_start|>"), [266]);
}

#[test]
fn text_outside_the_vocabulary_is_reported() {
    let place = place("bert", "kind = \"word\"");
    place.write("cn.txt", "狐狸跳过懒狗\n快速的棕色狐狸\n");
    let further = |sets: &[&str]| further(&place, sets);
    further(&["data.validation=cn.txt"]).fails(2, &["data.validation: no row has a target"]);
    place.write("mixed.txt", "The fox 狐狸\n");
    let said = further(&["data.validation=mixed.txt"]);
    let wanted = "data.validation = mixed.txt: 50 % of the text isn't in the tokenizer's vocabulary and is read as [UNK]";
    assert!(said.succeeds().stderr.contains(wanted), "{}", said.stderr);
    place.write("marked.txt", format!("\u{feff}{LINES}"));
    let sets = ["data.train=marked.txt", "data.validation=lines.txt"];
    assert!(!further(&sets).succeeds().stderr.contains("vocabulary"), "a byte order mark is not text");
}

#[test]
fn a_byte_order_mark_is_not_text() {
    let place = place("gpt2", PAIRS);
    let plain = first_step(&place, &[]);
    place.write("marked.txt", format!("\u{feff}{LINES}"));
    assert_eq!(first_step(&place, &["data.train=marked.txt"]), plain);
    place.write("prompt.txt", "\u{feff}The fox\n");
    let ids = |args: &[&str]| sample(&place, args).succeeds().json()["prompt_ids"].clone();
    let typed = ids(&["base", "The fox", "--next", "1", "--json"]);
    assert_eq!(ids(&["base", "--prompt-file", "prompt.txt", "--next", "1", "--json"]), typed);
    let tips = place.train(&["--config", "further.toml", "--out", "again", "--set", "data.train=marked.txt"]);
    assert!(!tips.succeeds().stderr.contains('\u{feff}'), "{}", tips.stderr);
}
