//! `bench --study`: variants of a config with several seeds, run once and compared in a table.

use std::process::Command;

use crate::support::{Place, Said};

const STUDY: &str = r#"
config = "small.toml"
set = ["train.steps=6", "train.eval_every=3"]
seeds = [1, 2]
out = "runs/study"

[[variant]]
name = "as it is"

[[variant]]
name = "half the rate"
set = ["optimizer.lr=1.5e-3"]
"#;

fn study(place: &Place, args: &[&str]) -> Said {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    let bench = bench.args(["--study", "study.toml"]).args(args).current_dir(place.path(""));
    Said::of(&bench.output().expect("bench runs"))
}

#[test]
fn a_study_runs_what_is_missing_and_compares() {
    let place = Place::new();
    place.write("study.toml", STUDY);
    let first = study(&place, &[]);
    let table = first.succeeds().stdout.clone();
    assert!(table.contains("| as it is | 2 | "), "{table}");
    let row = table.lines().find(|line| line.contains("half the rate")).expect("a row").to_owned();
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    assert!(
        cells[3].contains(" ± ") && cells[4].parse::<f64>().is_ok_and(|p| (0.0..=1.0).contains(&p)),
        "{row}"
    );
    for run in ["as-it-is-1", "as-it-is-2", "half-the-rate-1", "half-the-rate-2"] {
        assert!(place.path(&format!("runs/study/{run}/model/config.json")).exists(), "{run}");
    }
    // A missing run is repeated, to the same bits; the others are skipped.
    std::fs::remove_dir_all(place.path("runs/study/half-the-rate-1")).expect("removed");
    let json = study(&place, &["--json"]);
    assert_eq!(json.stderr.matches("already done").count(), 3, "{}", json.stderr);
    let variants = json.succeeds().json()["study"].clone();
    assert_eq!(variants[1]["variant"], "half the rate");
    let mean = variants[1]["at_equal_tokens"]["mean"].as_f64().expect("a mean");
    assert!(cells[3].starts_with(&format!("{mean:.4}")), "{row}: {mean}");

    place.write("study.toml", STUDY.replace("train.steps=6", "train.steps=7"));
    study(&place, &[]).fails(1, &["as-it-is-1 holds a run with other settings than the study"]);
    // A fault of a later variant is reported before the first run.
    place.write(
        "study.toml",
        STUDY.replace("optimizer.lr=1.5e-3", "optimizer.lr=-1").replace("runs/study", "runs/other"),
    );
    study(&place, &[]).fails(1, &["half the rate", "optimizer.lr = -1 must be greater than 0"]);
    assert!(!place.path("runs/other").exists());
    place.write("study.toml", STUDY.replace("seeds", "seed"));
    study(&place, &[]).fails(1, &["study.toml", "seed"]);
}
