//! Invalid input to `train`: a clear message, the right exit code, and nothing overwritten.

use crate::support::{Place, SMALL};

#[test]
fn wrong_configs_exit_2() {
    let place = Place::new();
    let config = |text: &str, code: i32, wanted: &[&str]| {
        place.write("bad.toml", text);
        place.train(&["--config", "bad.toml"]).fails(code, wanted);
        assert!(!place.path("runs").exists());
    };
    config(
        &SMALL.replace("batch_rows", "batch_row"),
        2,
        &["unknown key `train.batch_row`", "`batch_rows`", "^^^^"],
    );
    config(
        "[model]\nn_head = 5\nd_model = 128\n",
        2,
        &["model.n_head = 5 does not divide model.d_model = 128"],
    );
    config("[model", 2, &["not valid TOML", "bad.toml:1"]);
    config(&SMALL.replace("steps = 12", "steps = 0"), 2, &["train.steps = 0 must be at least 1"]);
    config(&SMALL.replace("\"gpt2\"", "\"bert\""), 2, &["would see the token that it must predict"]);
    place.write("bad.toml", b"[model]\n\xff");
    place.train(&["--config", "bad.toml"]).fails(2, &["not valid UTF-8: byte 8, in line 2"]);
    place
        .train(&["--config", "absent.toml"])
        .fails(2, &["absent.toml was not found here or in configs/", "fox.toml"]);
    std::fs::create_dir(place.path("folder.toml")).expect("a folder");
    place.train(&["--config", "folder.toml"]).fails(2, &["is a folder"]);
}

#[test]
fn wrong_usage_exits_2() {
    let place = Place::new();
    place.train(&[]).fails(2, &["Usage"]);
    place.train(&["--config", "small.toml", "--threads", "0"]).fails(2, &["--threads 0"]);
    place.train(&["--config", "small.toml", "--set", "steps"]).fails(2, &["section.key=VALUE"]);
    place.train(&["--config", "small.toml", "--device", "tpu"]).fails(2, &["device `tpu` is unknown"]);
    if !cfg!(feature = "cuda") {
        place.train(&["--config", "small.toml", "--device", "cuda"]).fails(2, &["--features cuda"]);
    }
    place.train(&["--config", "small.toml", "--set", "train.freeze=[\"nothing\"]"]).fails(2, &["nothing"]);
    assert!(!place.path("runs").exists());
}

#[test]
fn bad_data_exits_1_a_bad_key_exits_2_and_both_name_their_location() {
    let place = Place::new();
    place.write("empty.txt", "\n \n");
    place.write("short.txt", "fox");
    place.write("broken.txt", b"The fox\nThe \xff fox\n");
    std::fs::create_dir(place.path("folder")).expect("a folder");
    let train = |settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|item| ["--set", item]).collect();
        let said = place.train(&[&["--config", "small.toml"][..], &settings].concat());
        assert!(!place.path("runs").exists(), "{}", said.stderr);
        said
    };
    train(&["data.train=absent.txt"]).fails(2, &["absent.txt: no such file"]);
    train(&["data.train=empty.txt"]).fails(1, &["holds no text"]);
    train(&["data.train=broken.txt"]).fails(1, &["broken.txt: byte 12 is not valid UTF-8"]);
    train(&["data.train=short.txt", "data.rows=windows"]).fails(2, &["tokens", "window"]);
    train(&["data.train=folder"]).fails(2, &["folder"]);
}

#[test]
fn missing_files_are_named_and_exit_2() {
    let place = Place::new();
    place.train(&["--check", "absent"]).fails(2, &["absent: no such folder"]);
    place.train(&["--config", "small.toml", "--eval"]).fails(2, &["no such folder"]);
    place.train(&["--verify", "absent"]).fails(2, &["config.toml"]);
    place
        .train(&["--config", "small.toml", "--set", "train.init_from=absent"])
        .fails(2, &["absent: does not exist"]);
}

#[test]
fn stdout_has_data_only_and_a_closed_pipe_is_no_error() {
    let place = Place::new();
    let said = place.train(&["--config", "small.toml", "--dry-run"]);
    assert!(said.succeeds().stdout.contains("parameters") && !place.path("runs").exists());
    let plan = place.train(&["--config", "small.toml", "--dry-run", "--json"]).json();
    assert_eq!((&plan["steps"], &plan["rows_per_step"]), (&12.into(), &12.into()));
    place.train(&["--config", "small.toml"]).succeeds();
    let said = place.train(&["--config", "small.toml", "--eval"]);
    assert!(said.succeeds().stdout.contains("perplexity"), "{}", said.stdout);
    let found = place.train(&["--config", "small.toml", "--eval", "--json"]).json();
    let written = place.read("runs/small/metrics.jsonl");
    let last = written.lines().rfind(|line| line.contains("val_loss")).expect("an evaluation");
    let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!(found["val"]["loss"], last["val_loss"]);
    let mut child = place.start(&["--config", "small.toml", "--dry-run"]);
    drop(child.stdout.take());
    Place::wait(child).fails(0, &[]);
}

#[test]
fn quiet_prints_nothing_and_default_suggests_the_next_commands() {
    let place = Place::new();
    assert_eq!(place.train(&["--config", "small.toml", "--quiet"]).succeeds().stderr, "");
    let said = place.train(&["--config", "small.toml", "--out", "again"]);
    let wanted = [
        "step 12/12",
        "validation loss",
        "model: again/model",
        "--model again --prompt",
        "--model again --text",
    ];
    said.fails(0, &wanted);
}
