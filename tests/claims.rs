//! The claims of the README and of the small configs, with margins for other machines and seeds.

use std::process::Command;

use serde_json::Value;

use crate::support::{Place, Said};

/// Trains a built-in config with a seed; returns its summary.
fn trained(place: &Place, config: &str, seed: u64) -> Value {
    let seed = format!("train.seed={seed}");
    let args = ["--config", config, "--out", "run", "--overwrite", "--quiet", "--json", "--set", &seed];
    place.train(&args).succeeds().json()
}

/// The most likely next words for a prompt.
fn next(place: &Place, prompt: &str) -> Vec<(String, f64)> {
    let said = sample(place, &["--prompt", prompt, "--next", "5", "--json"]);
    let next = said.succeeds().json()["next"].as_array().expect("words").clone();
    let word = |next: &Value| {
        (next["text"].as_str().expect("a word").to_owned(), next["probability"].as_f64().expect("a number"))
    };
    next.iter().map(word).collect()
}

fn sample(place: &Place, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.args(["--model", "run"]).args(args).current_dir(place.path("."));
    command.stdin(std::process::Stdio::null());
    Said::of(&command.output().expect("sample runs"))
}

/// Checks the most likely word, and that its probability exceeds `at_least`.
#[track_caller]
fn says(place: &Place, prompt: &str, word: &str, at_least: f64) {
    let found = next(place, prompt);
    assert!(found[0].0 == word && found[0].1 > at_least, "{prompt:?}: {found:?}");
}

fn loss(summary: &Value) -> f64 {
    summary["best"]["val_loss"].as_f64().expect("a loss")
}

#[test]
fn the_fox_jumps() {
    let place = Place::new();
    let found = trained(&place, "fox.toml", 1);
    assert!((loss(&found) - 1.27).abs() < 0.15, "{found}");
    says(&place, "The quick brown fox", "jumps", 0.8);
    let found = trained(&place, "fox-multihead.toml", 1);
    assert!((loss(&found) - 1.29).abs() < 0.15, "{found}");
    says(&place, "The quick brown fox", "jumps", 0.3);
}

/// The commands suggested after a run work unchanged.
#[test]
fn the_suggested_commands_of_a_masked_model_work() {
    let place = Place::new();
    let said = place.train(&["--config", "fox-bert", "--out", "run", "--set", "train.steps=60"]);
    said.fails(
        0,
        &["--prompt \"The quick brown [MASK] jumps\" --next 5", "--text \"The quick brown [MASK] jumps\""],
    );
}

fn bert_fills_in_brown(seed: u64) {
    let place = Place::new();
    let found = trained(&place, "fox-bert.toml", seed);
    assert!((0.6..1.15).contains(&loss(&found)), "{found}");
    let accuracy = found["evaluation"]["accuracy"].as_f64().expect("a share");
    assert!((0.68..0.9).contains(&accuracy), "{found}");
    for prompt in ["The quick [MASK] fox jumps", "The quick [MASK] fox jumps over the lazy dog."] {
        says(&place, prompt, "brown", 0.5);
        // Without sampling flags, a mask always gets its most likely word.
        for _ in 0..3 {
            let filled = sample(&place, &["--prompt", prompt]);
            assert!(filled.stdout.contains("quick brown fox"), "{}", filled.stdout);
            assert!(!filled.stderr.contains("seed"), "{}", filled.stderr);
        }
    }
    let drawn: Vec<String> = (0..30)
        .map(|seed| {
            sample(&place, &["--prompt", "The [MASK] fox", "--min-p", "0", "--seed", &seed.to_string()])
                .stdout
        })
        .collect();
    assert!(drawn.iter().any(|text| *text != drawn[0]), "with sampling flags, it samples");
}

#[test]
fn bert_fills_in_the_brown_fox() {
    bert_fills_in_brown(1);
}

#[test]
#[ignore = "long: a minute"]
fn bert_fills_in_the_brown_fox_from_any_seed() {
    (2..=6).for_each(bert_fills_in_brown);
}

#[test]
fn every_sentence_finds_its_paraphrase() {
    let place = Place::new();
    let found = trained(&place, "embed-mini.toml", 1);
    assert!(found["evaluation"]["recall_at_1"].as_f64().expect("a share") > 0.98, "{found}");
    assert!(loss(&found) < 0.03, "{found}");
}

#[test]
fn the_classifier_distinguishes_the_topics() {
    let place = Place::new();
    let found = trained(&place, "bert-classify.toml", 1);
    assert!(found["evaluation"]["accuracy"].as_f64().expect("a share") > 0.95, "{found}");
    assert!(found["evaluation"]["macro_f1"].as_f64().expect("a score") > 0.95, "{found}");
}

#[test]
#[ignore = "long: twenty minutes, with data/tinyshakespeare.txt"]
fn the_speed_run_reaches_the_loss_of_nanogpt() {
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/tinyshakespeare.txt");
    let (place, text) = (Place::new(), format!("data.train={text}"));
    // All its steps, on a slow machine too.
    let args = ["--config", "speedrun", "--out", "run", "--quiet", "--json", "--set", &text];
    let found = place.train(&[&args[..], &["--set", "train.budget_minutes=1000"]].concat()).succeeds().json();
    assert!(loss(&found) < 1.4697, "{found}");
}
