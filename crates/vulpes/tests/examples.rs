//! Runs each example on the output of the previous one and checks what it prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

/// The output of an example.
fn run(example: &str, args: &[&str]) -> String {
    // Next to this test's binary: `cargo test` builds both.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path = path.join("examples").join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&path).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{example}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The number at the end of the line that begins with `start`.
fn number(said: &str, start: &str) -> f64 {
    let line = said.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{said}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_model_is_trained_sampled_fine_tuned_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (model, tuned) = (folder("model"), folder("tuned"));
    let said = run("train", &["data/sailor.txt", &model]);
    assert_eq!(said.lines().filter(|line| line.starts_with("loss ")).count(), 100);
    assert!(number(&said, "validation loss") < 2.4, "{said}");

    let said = run("generate", &[&model, "Ahoy"]);
    assert!(said.starts_with("Ahoy") && said.len() > 40, "{said}");
    assert_eq!(said, run("generate", &[&model, "Ahoy"]));

    let said = run("finetune", &[&model, "data/sailor.txt", &tuned]);
    assert!(number(&said, "validation loss after") < number(&said, "validation loss before"), "{said}");

    let said = run("attention", &[&tuned, "Ahoy"]);
    let first: Vec<&str> = said.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["A", "1.00", "0.00", "0.00", "0.00"], "{said}");
}

#[test]
fn a_custom_model_is_trained_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_string_lossy().into_owned();
    let losses = |said: &str| -> Vec<String> {
        said.lines().filter(|line| line.starts_with("loss ")).map(str::to_owned).collect()
    };
    let first = run("custom", &[&out]);
    assert!(first.starts_with("resumed after step None\n"), "{first}");
    assert_eq!(losses(&first).len(), 40);
    let second = run("custom", &[&out]);
    assert!(second.starts_with("resumed after step Some(40)\n"), "{second}");
    assert_eq!(losses(&second).len(), 20);
    assert!(second.contains("the quick brown"), "{second}");
}

#[test]
fn an_operation_is_checked_by_hand() {
    let said = run("ops", &[]);
    assert!((number(&said, "by the operation") - number(&said, "by hand")).abs() < 1e-5, "{said}");
}

/// Programs must be short: longer code belongs in a crate.
#[test]
fn every_example_has_at_most_forty_lines() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 40, "{}", path.display());
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}
