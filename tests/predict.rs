//! What a classifier says of texts and of files, and the ways in which `sample` is asked.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Place, Said};

fn command(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.args(args).current_dir(place.path("."));
    command
}

fn sample(place: &Place, args: &[&str]) -> Said {
    Said::of(&command(place, args).stdin(Stdio::null()).output().expect("sample runs"))
}

#[test]
fn a_classifier_labels_texts_and_rows_and_says_how_well() {
    let place = Place::new();
    let args = ["--config", "bert-classify", "--out", "run", "--quiet", "--set", "train.steps=120"];
    place.train(&args).succeeds();
    let rows = vulpes_data::embedded("data/topics.val.jsonl").expect("topics");
    place.write("rows.jsonl", rows);
    let parsed: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let csv: String = parsed
        .iter()
        .map(|row| {
            format!(
                "\"{}\",{}\n",
                row["text"].as_str().expect("a text"),
                row["label"].as_str().expect("a label")
            )
        })
        .collect();
    place.write("rows.csv", format!("review,topic\n{csv}"));
    let jsonl = ["run", "--prompt-file", "rows.jsonl", "--label-column", "label", "--json"];
    let said = sample(&place, &jsonl);
    let lines: Vec<Value> =
        said.succeeds().stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), parsed.len() + 1);
    // Each row by itself has the same numbers, to the digits that are shown.
    let mut right = 0;
    for (number, row) in parsed.iter().enumerate() {
        right += usize::from(lines[number]["label"] == row["label"]);
        if number % 7 == 0 {
            let alone = sample(&place, &["run", row["text"].as_str().expect("a text"), "--json"]).json();
            assert_eq!(alone["label"], lines[number]["label"]);
            let (one, many) = (&alone["next"][0]["probability"], &lines[number]["probability"]);
            assert!((one.as_f64().expect("a number") - many.as_f64().expect("a number")).abs() < 5e-5);
        }
    }
    let report = &lines[parsed.len()]["report"];
    assert_eq!(report["accuracy"].as_f64(), Some(right as f64 / parsed.len() as f64));
    assert_eq!(report["texts"], parsed.len());
    // The same from CSV, as a table, its report on stderr.
    let said = sample(
        &place,
        &["run", "--prompt-file", "rows.csv", "--text-column", "review", "--label-column", "topic"],
    );
    assert_eq!(said.succeeds().stdout.lines().count(), parsed.len() + 1);
    let second: Vec<&str> = said.stdout.lines().nth(1).expect("a row").split('\t').collect();
    assert_eq!((second[0], second[1]), ("2", lines[0]["label"].as_str().expect("a label")));
    said.fails(0, &["macro-F1", "precision", "right label (row) by chosen label"]);
    // A table of labels for a text; what has no meaning is refused.
    let table = sample(&place, &["run", "the dog sleeps", "--next", "3"]);
    assert_eq!(table.succeeds().stdout.lines().count(), 3);
    sample(&place, &["run", "a text", "--temp", "1"]).fails(2, &["tells labels"]);
    sample(&place, &["run", "--prompt-file", "rows.csv"])
        .fails(2, &["no column \"text\"; it has review, topic"]);
    place.write("empty.csv", "text\nfine\n\"\"\n");
    sample(&place, &["run", "--prompt-file", "empty.csv"]).fails(1, &["empty.csv:3: the text is empty"]);
}

#[test]
fn a_prompt_comes_by_word_by_flag_or_by_pipe() {
    let place = Place::new();
    place.train(&["--config", "fox", "--out", "run", "--quiet", "--set", "train.steps=50"]).succeeds();
    let asked = ["--next", "3"];
    let by_flag = sample(&place, &[&["--model", "run", "--prompt", "The quick"][..], &asked].concat());
    let by_word = sample(&place, &[&["run", "The quick"][..], &asked].concat());
    assert_eq!(by_flag.succeeds().stdout, by_word.succeeds().stdout);
    let mut piped = command(&place, &[&["--model", "run"][..], &asked].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sample starts");
    piped.stdin.take().expect("a pipe").write_all(b"The quick\n").expect("written");
    assert_eq!(Said::of(&piped.wait_with_output().expect("an end")).stdout, by_flag.stdout);
    sample(&place, &["run", "The", "--prompt", "quick"]).fails(2, &["cannot be used with"]);
    sample(&place, &["run", "--prompt-file", "small.toml", "--text-column", "a"])
        .fails(2, &["go with a classifier"]);
    // Nothing to read is no prompt: the model begins by itself.
    sample(&place, &["run", "-n", "3", "--temp", "0"]).succeeds();
}
