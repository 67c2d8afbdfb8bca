//! Models named as on the hub, from the cache, in every program that reads a model.

use std::path::Path;
use std::process::Command;

use crate::support::{Place, Said};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A place whose cache holds a run's model in huggingface_hub's layout, under this revision.
fn cached(place: &Place, run: &str, name: &str, revision: &str) {
    let folder = place.path("cache").join(format!("models--{}", name.replace('/', "--")));
    let snapshot = folder.join("snapshots").join(COMMIT);
    for dir in ["blobs", "refs"].map(|dir| folder.join(dir)).iter().chain([&snapshot]) {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    std::fs::write(folder.join("refs").join(revision), COMMIT).expect("a file");
    for entry in std::fs::read_dir(place.path(run).join("model")).expect("a model") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_owned();
        std::fs::copy(&path, folder.join("blobs").join(&name)).expect("a copy");
        std::os::unix::fs::symlink(Path::new("../../blobs").join(&name), snapshot.join(&name))
            .expect("a link");
    }
}

fn run(place: &Place, program: &str, args: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(args).current_dir(place.path(".")).stdin(std::process::Stdio::null());
    command.env("HF_HUB_CACHE", place.path("cache")).env("HF_HUB_OFFLINE", "1");
    Said::of(&command.output().expect("it runs"))
}

const TRAIN: &str = env!("CARGO_BIN_EXE_train");
const SAMPLE: &str = env!("CARGO_BIN_EXE_sample");
const EXPLAIN: &str = env!("CARGO_BIN_EXE_explain");
const EXPORT: &str = env!("CARGO_BIN_EXE_export");

#[test]
fn a_name_resolves_to_its_snapshot_in_the_cache() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--quiet", "--out", "mine"]).succeeds();
    cached(&place, "mine", "org/small", "main");
    cached(&place, "mine", "org/other", "v1");
    let next = |model: &str| {
        run(&place, SAMPLE, &["--model", model, "--prompt", "The quick", "--next", "3"])
            .succeeds()
            .stdout
            .clone()
    };
    let wanted = next("mine");
    let by_commit = format!("org/other@{COMMIT}");
    for name in ["org/small", "org/small@main", "org/other@v1", by_commit.as_str()] {
        assert_eq!(next(name), wanted, "{name}");
    }
    run(&place, EXPLAIN, &["org/small", "The quick", "--json"]).succeeds();
    let said = run(&place, EXPORT, &["org/small", "--to", "hf", "--dtype", "bf16", "--out", "half"]);
    said.succeeds();
    assert!(place.path("half/model.safetensors").metadata().expect("a file").is_file(), "a file, not a link");
    let further = [
        "--config",
        "small.toml",
        "--out",
        "further",
        "--set",
        "train.init_from=org/small",
        "--set",
        "train.steps=6",
    ];
    // The folder defines the model; the config's `[model]` is removed.
    let text = place.read("small.toml");
    let (_, rest) = text.split_once("[data]").expect("a section");
    place.write("small.toml", format!("[data]{rest}"));
    let said = run(&place, TRAIN, &further);
    said.succeeds();
    assert!(place.read("further/config.toml").contains("init_from = \"org/small\""));
}

#[test]
fn a_local_folder_takes_precedence_and_an_unknown_name_lists_the_places_searched() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--quiet", "--out", "org/small"]).succeeds();
    place.write("cache/models--org--small/refs/main", "nothing");
    run(&place, SAMPLE, &["org/small", "The quick", "--next", "1"]).succeeds();
    for (name, words) in [
        ("big/model", &["models--big--model does not exist", "`hf download big/model`", "HF_HUB_CACHE"][..]),
        ("big/model@v2", &["hf download big/model --revision v2"]),
    ] {
        let said = run(&place, SAMPLE, &["--model", name, "--prompt", "a"]);
        said.fails(2, &["does not exist; a model folder, or a run folder", "As a hub name"]);
        said.fails(2, words);
    }
    place.write("cache/models--big--model/refs/main", COMMIT);
    run(&place, SAMPLE, &["big/model@v2", "a"]).fails(2, &["models--big--model has no revision v2"]);
    let said = run(&place, TRAIN, &["--config", "small.toml", "--set", "train.init_from=big/model"]);
    said.fails(2, &["train.init_from", "hf download big/model"]);
    // No name or file of the cache leads out of it.
    place.write("cache/models--big--model/refs/main", "../../../org/small/model");
    run(&place, SAMPLE, &["big/model", "a"]).fails(2, &["does not exist"]);
    assert!(!run(&place, SAMPLE, &["../cache/x", "a"]).stderr.contains("hub"), "a path is not a name");
}
