//! Rows of ids and labels: their targets, their padding, and what a model can't read.

use super::tests::{open, options, write};
use super::*;
use crate::config::{DataConfig, DataKind, ObjectiveConfig, ObjectiveKind};

/// The targets, positions and padding mask of a causal model's rows, from one JSON object per line.
fn causal(lines: &str) -> crate::error::Result<Batch> {
    let folder = tempfile::tempdir().unwrap();
    let data = DataConfig {
        kind: DataKind::Ids,
        train: write(folder.path(), "ids.jsonl", lines),
        ..DataConfig::default()
    };
    let options = OpenOptions { vocab_size: Some(20), n_token_types: Some(0), shuffle: false, ..options(8) };
    let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options)?;
    dataset.batch(Cursor::default(), dataset.n_rows() as usize)
}

#[test]
fn rows_of_one_id_have_no_targets() {
    let batch = causal("{\"input_ids\": [5, 6]}\n{\"input_ids\": [7]}\n").unwrap();
    assert_eq!(batch.targets, [6, -100, -100, -100]);
    assert_eq!(batch.padding_mask.as_deref(), Some(&[1, 1, 1, 0][..]));
    let error = causal("{\"input_ids\": [7]}\n").unwrap_err().to_string();
    assert!(error.contains("data.train: no row has a target"), "{error}");
}

#[test]
fn left_padding_moves_neither_positions_nor_targets() {
    let batch =
        causal("{\"input_ids\": [0, 0, 5, 6], \"attention_mask\": [0, 0, 1, 1]}\n{\"input_ids\": [5, 6]}\n")
            .unwrap();
    assert_eq!(batch.targets, [-100, -100, 6, -100, 6, -100, -100, -100]);
    assert_eq!(batch.positions.as_deref(), Some(&[0, 0, 0, 1, 0, 1, 0, 0][..]));
    let right = causal("{\"input_ids\": [5, 6, 0], \"attention_mask\": [1, 1, 0]}\n").unwrap();
    assert_eq!((right.targets, right.positions), (vec![6, -100, -100], None));
}

#[test]
fn rows_the_model_cannot_read_are_reported_with_their_line() {
    for (row, wanted) in [
        ("\"input_ids\": [5, 20]", "ids.jsonl:2: id 20 is out of range: the vocabulary has 20"),
        ("\"input_ids\": [5, 6], \"labels\": [5, 20]", "ids.jsonl:2: label 20 is not an id"),
        ("\"input_ids\": [5, 6], \"labels\": [5, -1]", "ids.jsonl:2: label -1 is not an id"),
        ("\"input_ids\": [5, 6], \"token_type_ids\": [0, 1]", "this model has no token types"),
        (
            "\"input_ids\": [5, 6], \"position_ids\": [0, 8]",
            "position_ids has a 8, and model.context_len is 8",
        ),
        ("\"input_ids\": [1, 2, 3, 4, 5, 6, 7, 8, 9]", "input_ids has 9 ids"),
        ("\"input_ids\": [5, 6], \"labels\": 1", "labels is one number"),
    ] {
        let error = causal(&format!("{{\"input_ids\": [1, 2]}}\n{{{row}}}\n")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    causal("{\"input_ids\": [5, 6], \"token_type_ids\": [0, 0], \"labels\": [-100, 6]}\n").unwrap();
}

#[test]
fn labels_of_the_initial_model_are_kept_if_they_include_the_corpus() {
    let folder = tempfile::tempdir().unwrap();
    let of_model: Vec<String> = ["up", "north", "down"].map(str::to_owned).into();
    let labels = |rows: &[(&str, &str)]| {
        let lines: String = rows
            .iter()
            .map(|(text, label)| format!("{{\"text\": \"{text}\", \"label\": {label}}}\n"))
            .collect();
        let data = DataConfig {
            kind: DataKind::Jsonl,
            train: write(folder.path(), "a.jsonl", &lines),
            ..DataConfig::default()
        };
        let objective = ObjectiveConfig { kind: Some(ObjectiveKind::Classify), ..ObjectiveConfig::default() };
        let options = OpenOptions { labels: &of_model, shuffle: false, ..options(8) };
        let dataset = Dataset::open(&data, &objective, &options).unwrap();
        let targets = dataset.batch(Cursor::default(), rows.len()).unwrap().targets;
        (dataset.labels().to_vec(), targets)
    };
    assert_eq!(labels(&[("a b", "\"down\""), ("c d", "\"up\"")]), (of_model.clone(), vec![2, 0]));
    assert_eq!(labels(&[("a b", "1"), ("c d", "0")]), (of_model.clone(), vec![1, 0]));
    let others = vec!["left".to_owned(), "up".to_owned()];
    assert_eq!(labels(&[("a b", "\"up\""), ("c d", "\"left\"")]), (others, vec![1, 0]));
}

#[test]
fn rows_of_ids_are_shifted_for_a_causal_model() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"input_ids\": [5, 6, 7]}\n{\"input_ids\": [0, 8, 9], \"attention_mask\": [0, 1, 1], \"labels\": [-100, 8, -100]}\n";
    let data = DataConfig {
        kind: DataKind::Ids,
        train: write(folder.path(), "ids.jsonl", lines),
        shuffle: false,
        ..DataConfig::default()
    };
    let dataset = open(&data, ObjectiveKind::NextToken, 8).unwrap();
    let batch = dataset.batch(Cursor::default(), 2).unwrap();
    assert_eq!(batch.targets, [6, 7, -100, -100, -100, -100], "padding has no targets");
    assert_eq!(batch.padding_mask.as_deref(), Some(&[1, 1, 1, 0, 1, 1][..]));
    assert_eq!(dataset.vocab_size(), 10);
    let error = open(&data, ObjectiveKind::NextToken, 2).unwrap_err().to_string();
    assert!(error.contains("ids.jsonl:1: input_ids has 3 ids, and model.context_len is 2"), "{error}");
}

#[test]
fn table_labels_are_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "review,stars\n\"The fox, red\",10\nthe dog,9\nthe cat,10\n";
    let mut data = DataConfig {
        kind: DataKind::Csv,
        train: write(folder.path(), "a.csv", csv),
        text_column: Some("review".into()),
        label_column: Some("stars".into()),
        shuffle: false,
        ..DataConfig::default()
    };
    let dataset = open(&data, ObjectiveKind::Classify, 8).unwrap();
    assert_eq!((dataset.labels(), dataset.n_labels()), (&["9".to_owned(), "10".to_owned()][..], 2));
    let batch = dataset.batch(Cursor::default(), 3).unwrap();
    assert_eq!(batch.targets, [1, 0, 1]);
    assert_eq!(batch.slice(1..3).targets, [0, 1]);
    data.validation = write(folder.path(), "b.csv", "review,stars\nthe wolf,8\n");
    let error = open(&data, ObjectiveKind::Classify, 8).unwrap_err().to_string();
    assert!(error.contains("b.csv:2: label \"8\" does not occur in data.train, which has 10, 9"), "{error}");
    data.text_column = None;
    let error = open(&data, ObjectiveKind::Classify, 8).unwrap_err().to_string();
    assert!(error.contains("no column \"text\"; it has review, stars"), "{error}");
    let data = DataConfig {
        kind: DataKind::Jsonl,
        train: write(folder.path(), "a.jsonl", PAIRS),
        pair_column: Some("b".into()),
        shuffle: false,
        ..DataConfig::default()
    };
    // The longer text is cut.
    let dataset = open(&data, ObjectiveKind::Classify, 5).unwrap();
    let batch = dataset.batch(Cursor::default(), 1).unwrap();
    assert_eq!(batch.token_types, Some(vec![0, 0, 0, 1, 1]));
    assert_eq!(dataset.tokenizer().unwrap().decode(&batch.ids, false).unwrap(), "a b [EOS] c [EOS]");
}

/// Two pairs with labels.
const PAIRS: &str = "{\"text\": \"a b\", \"label\": \"x\", \"b\": \"c d e\"}\n\
                     {\"text\": \"a b\", \"label\": \"y\", \"b\": \"c\"}\n";
