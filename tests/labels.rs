//! Class weights in training: a row of weight two counts as the row twice.

use serde_json::Value;

use crate::support::Place;

const SMALL: &str = r#"
[model]
family = "bert"
n_layer = 1
n_head = 2
d_model = 16
context_len = 20
dropout = 0.0

[data]
kind = "jsonl"
train = "rows.jsonl"

[data.tokenizer]
kind = "char"

[objective]
kind = "classify"

[train]
steps = 3
accumulate = 1
shuffle = false
eval_every = 0
checkpoint_every = 0
"#;

/// The losses of three steps over all of `rows`.
fn losses(rows: &[(&str, &str)], run: &str, more: &[&str]) -> Vec<f64> {
    let place = Place::new();
    let line =
        |(text, label): &(&str, &str)| format!("{}\n", serde_json::json!({ "text": text, "label": label }));
    place.write("rows.jsonl", rows.iter().map(line).collect::<String>());
    place.write("labels.toml", SMALL);
    let n_rows = format!("train.batch_rows={}", rows.len());
    let mut args = vec!["--config", "labels.toml", "--out", run, "--set", &n_rows];
    more.iter().for_each(|set| args.extend(["--set", set]));
    place.train(&args).succeeds();
    let metrics = place.read(&format!("{run}/metrics.jsonl"));
    let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["loss"].as_f64();
    metrics.lines().filter_map(line).collect()
}

fn same(ours: &[f64], theirs: &[f64]) {
    assert_eq!((ours.len(), theirs.len()), (3, 3));
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() < 1e-5, "{ours} and {theirs}");
    }
}

#[test]
fn a_weight_of_two_equals_the_row_twice() {
    let (sun, rain, tea) = (("the sun is up", "sky"), ("rain on the roof", "sky"), ("tea with milk", "home"));
    let table = ["objective.class_weights={home = 2.0}"];
    let weighted = losses(&[sun, rain, tea], "weighted", &table);
    same(&weighted, &losses(&[sun, rain, tea, tea], "twice", &[]));
    same(&weighted, &losses(&[sun, rain, tea], "balanced", &["objective.class_weights=balanced"]));
    let plain = losses(&[sun, rain, tea], "plain", &[]);
    assert!((plain[0] - weighted[0]).abs() > 1e-4, "a weight changes the loss: {}", plain[0]);
    // Shards and smoothing don't affect the weights.
    let smooth = [table[0], "objective.label_smoothing=0.1"];
    let cut = [smooth[0], smooth[1], "train.shards=3", "train.threads=2"];
    same(&losses(&[sun, rain, tea], "smooth", &smooth), &losses(&[sun, rain, tea], "cut", &cut));
}

#[test]
fn weights_of_unknown_labels_are_refused() {
    let place = Place::new();
    place.write("rows.jsonl", "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n");
    place.write("labels.toml", SMALL);
    let fails = |set: &str, wanted: &[&str]| {
        place
            .train(&["--config", "labels.toml", "--set", "train.batch_rows=2", "--set", set])
            .fails(2, wanted);
    };
    fails("objective.class_weights={z = 2.0}", &["has unknown label \"z\"; known labels: x, y"]);
    fails("objective.class_weights={x = 0.0}", &["x = 0: a weight must be greater than 0"]);
    fails("objective.class_weights=even", &["\"even\": wanted \"balanced\""]);
}
