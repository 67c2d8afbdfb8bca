//! Adapters of classifiers and embedding models, and adapters in runs of several processes.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::processes::{NEVER, digest, run_of};
use crate::support::{Place, Said, fixtures};

const ROWS: &str = r#"
[data]
kind = "jsonl"
train = "rows.jsonl"
validation = "rows.jsonl"

[adapter]
rank = 4
dropout = 0.1

[optimizer]
lr = 3e-2

[train]
steps = 24
shards = 3
batch_rows = 6
eval_every = 12
checkpoint_every = 8
keep_last = 3
"#;

fn sample(place: &Place, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.args(args).current_dir(place.path("."));
    Said::of(&command.output().expect("sample runs"))
}

fn train(place: &Place, run: &str, model: &Path, more: &[&str]) -> Said {
    let init_from = format!("train.init_from={}", model.display());
    let mut args = vec!["--config", "rows.toml", "--out", run, "--json", "--set", &init_from];
    more.iter().for_each(|more| match more.starts_with("--") {
        true => args.push(more),
        false => args.extend(["--set", more]),
    });
    let said = place.train(&args);
    said.succeeds();
    said
}

/// Checks that the digest is equal for any number of threads, after an interruption and with recomputation; returns the
/// last evaluation.
fn learns_reproducibly(place: &Place, model: &Path, more: &[&str]) -> Value {
    let digest = |run: &str, other: &[&str]| -> Value {
        train(place, run, model, &[more, other].concat()).json()["digest"].clone()
    };
    let whole = digest("whole", &["train.threads=1"]);
    assert_eq!(digest("threads", &["train.threads=3", "train.recompute=true"]), whole);
    digest("cut", &["train.steps=12"]);
    assert_eq!(digest("cut", &["--resume"]), whole);
    place.train(&["--check", "whole"]).succeeds();
    let verified = place.train(&["--verify", "whole", "--from", "16", "--to", "24"]);
    assert!(verified.succeeds().stdout.contains("identical"), "{}", verified.stdout);
    assert!(place.path("whole/model/adapter_config.json").is_file());
    assert!(!place.path("whole/model/model.safetensors").exists());
    let metrics = place.read("whole/metrics.jsonl");
    let mut lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.rfind(|line| line["val_loss"].is_number()).expect("an evaluation")
}

#[test]
fn a_classifier_learns_new_labels_through_an_adapter() {
    let place = Place::new();
    place.write("rows.toml", ROWS);
    let texts =
        ["the sun is up", "rain on the roof", "tea with milk", "bread and tea", "a train to Rome", "the map"];
    let labels = ["sky", "sky", "home", "home", "travel", "travel"];
    let row = |(text, label): (&&str, &&str)| format!("{}\n", json!({ "text": text, "label": label }));
    place.write("rows.jsonl", texts.iter().zip(&labels).map(row).collect::<String>());
    // A language model without labels.
    place.write("words.txt", texts.join("\n"));
    let words = [
        ("data.train", "words.txt"),
        ("data.validation", "words.txt"),
        ("model.family", "bert"),
        ("model.d_model", "16"),
        ("objective.kind", "masked_token"),
    ];
    let words: Vec<String> = words.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut args = vec!["--config", "small.toml", "--out", "words"];
    words.iter().for_each(|set| args.extend(["--set", set.as_str()]));
    place.train(&args).succeeds();
    let model = place.path("words");
    let more = ["objective.kind=classify", "objective.class_weights=balanced"];
    let last = learns_reproducibly(&place, &model, &more);
    assert_eq!(last["val_accuracy"], 1.0, "{last}");
    let said = sample(&place, &["--model", "whole", "--prompt", "tea with milk", "--json"]);
    assert_eq!(said.succeeds().json()["label"], "home", "{}", said.stdout);
}

#[test]
fn an_embedding_model_is_trained_through_an_adapter() {
    let place = Place::new();
    let dir = fixtures().join("sentences/bert");
    place.write("rows.jsonl", std::fs::read(dir.join("pairs.jsonl")).expect("pairs"));
    let columns = "[data]\ntext_column = \"question\"\npair_column = \"answer\"\n";
    place.write("rows.toml", ROWS.replacen("[data]\n", columns, 1));
    let more = ["objective.kind=contrastive", "train.batch_rows=3", "optimizer.lr=3e-3"];
    let last = learns_reproducibly(&place, &dir, &more);
    assert_eq!(last["val_recall_at_1"], 1.0, "{last}");
    let vector = |args: &[&str]| {
        let said = sample(&place, &[args, &["--prompt", "a b", "--json"]].concat());
        said.succeeds().json()["embedding"].clone()
    };
    let base = dir.display().to_string();
    assert!(vector(&["--model", "whole"]).is_array());
    assert_eq!(vector(&["--model", "whole"]), vector(&["--model", &base, "--adapter", "whole"]));
    assert_ne!(vector(&["--model", "whole"]), vector(&["--model", &base]));
}

/// An adapter with dropout and magnitudes; each process holds the complete base model.
#[test]
fn an_adapter_is_the_same_on_any_number_of_processes() {
    let dir = tempfile::tempdir().expect("a folder");
    let rows: String =
        (0..9).map(|row| format!("{{\"input_ids\": [{row}, 5, {}, 3, 2]}}\n", 2 * row + 1)).collect();
    std::fs::write(dir.path().join("rows.jsonl"), rows).expect("a file");
    let text = format!(
        "[data]\nkind = \"ids\"\ntrain = {:?}\n[adapter]\nrank = 3\ndropout = 0.2\ndora = true\n\
         also_train = [\"embedding.token\"]\n[train]\ninit_from = {:?}\nsteps = 6\nbatch_rows = 4\naccumulate = 2\n\
         shards = 3\neval_every = 0\ncheckpoint_every = 2\nthreads = 1\n",
        dir.path().join("rows.jsonl"),
        fixtures().join("lora/bases/llama-tiny"),
    );
    let at = |name: &str| dir.path().join(name);
    let ended = |dir: &Path, size, when| digest(dir, run_of(&text, dir, size, when, &|_: usize| Vec::new()));
    let whole = ended(&at("one"), 1, (false, NEVER));
    assert!(ended(&at("four"), 4, (false, NEVER)) == whole, "four processes");
    for (size, stop, resume) in [(3, 3, false), (2, NEVER, true)] {
        let ended = run_of(&text, &at("changing"), size, (resume, stop), &|_: usize| Vec::new());
        if stop == NEVER {
            assert!(digest(&at("changing"), ended) == whole, "resumed by two processes");
        }
    }
}
