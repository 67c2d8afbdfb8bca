//! The programs under one name are the programs.

use std::process::{Command, Stdio};

use crate::support::{Place, Said};

fn vulpes(place: &Place, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vulpes"));
    command.args(args).current_dir(place.path(".")).stdin(Stdio::null()).env_remove("CARGO_MANIFEST_DIR");
    Said::of(&command.output().expect("vulpes runs"))
}

#[test]
fn vulpes_has_every_program_with_its_own_words() {
    let place = Place::new();
    let plan = ["--config", "small.toml", "--dry-run"];
    let through = vulpes(&place, &[&["train"][..], &plan].concat());
    assert_eq!(through.succeeds().stdout, place.train(&plan).stdout);
    let trained = vulpes(&place, &["train", "--config", "small.toml"]);
    // What is tried next is named as this one was.
    trained.fails(0, &["vulpes sample --model runs/small", "vulpes explain --model runs/small"]);
    let next = vulpes(&place, &["sample", "--model", "runs/small", "--prompt", "The quick", "--next", "3"]);
    assert_eq!(next.succeeds().stdout.lines().count(), 3);
    let explained =
        vulpes(&place, &["explain", "--model", "runs/small", "--text", "The quick brown", "--json"]);
    let by_word = vulpes(&place, &["explain", "runs/small", "The quick brown", "--json"]);
    assert_eq!(by_word.succeeds().stdout, explained.stdout);
    for shell in ["bash", "zsh", "fish"] {
        let script = vulpes(&place, &["completions", shell]);
        assert!(script.succeeds().stdout.contains("overwrite"), "{shell}");
    }
    assert_eq!(explained.succeeds().json()["tokens"].as_array().expect("tokens").len(), 3);
    let bench = ["bench", "--config", "small.toml", "--steps", "1", "--rounds", "1", "--json"];
    assert!(vulpes(&place, &bench).succeeds().json().is_object());
    assert_eq!(vulpes(&place, &["train", "--config", "absent"]).code, 2);
    assert_eq!(vulpes(&place, &["bench", "--config", "absent"]).code, 2);
    assert_eq!(vulpes(&place, &["train", "--colour"]).code, 2);
    let alone = vulpes(&place, &[]);
    assert_eq!(alone.code, 2);
    for name in ["train", "sample", "explain", "bench"] {
        assert!(alone.stderr.contains(&format!("\n  {name} ")), "{}", alone.stderr);
    }
}

/// An error is told in words, not in the program's own stack.
#[test]
fn errors_have_no_backtrace() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--set", "train.steps=3"]).succeeds();
    place.write("runs/small/model/model.safetensors", "nothing");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.args(["--model", "runs/small", "--prompt", "The"]).current_dir(place.path("."));
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    let said = Said::of(&command.output().expect("sample runs"));
    said.fails(1, &["model.safetensors"]);
    assert!(!said.stderr.contains("   0: "), "{}", said.stderr);
}
