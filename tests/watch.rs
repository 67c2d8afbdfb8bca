//! The outputs of a run: metrics, event files, the loss plot, and failed steps.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Place, SMALL, Said};

#[test]
fn run_folder_has_metrics_plot_and_pointers() {
    let place = Place::new();
    place.train(&["--config", "small.toml"]).succeeds();
    let lines: Vec<Value> = place
        .read("runs/small/metrics.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    assert_eq!(steps.len(), 12);
    let keys = ["step", "loss", "lr", "grad_norm", "tokens", "step_ms", "data_wait_ms", "tokens_per_s"];
    for key in [&keys[..], &["elapsed_s"]].concat() {
        assert!(steps.iter().all(|line| line[key].is_number()), "{key}");
    }
    assert_eq!(lines.iter().filter(|line| line["val_loss"].is_number()).count(), 2);
    let picture = place.read("runs/small/loss.svg");
    assert!(picture.matches("<polyline").count() == 2 && picture.contains(">tokens<"), "{picture}");
    assert_eq!(place.read("runs/small/checkpoints/latest").trim(), "step-00000012");
    assert!(place.read("runs/small/checkpoints/best").starts_with("step-"));
    assert!(place.read("runs/small/config.toml").contains("lr = 0.003"));
    for name in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
        assert!(place.path("runs/small/model").join(name).is_file(), "{name}");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(place.path("runs/small/model").join(name)).expect("a file").permissions(),
        );
        assert_eq!(mode & 0o444, 0o444, "{name} has ordinary permissions");
    }
}

/// Runs the replay command of a failed run in a shell.
fn replay(place: &Place, said: &Said) -> Said {
    let command =
        said.stderr.lines().find_map(|line| line.split_once("replay the step with: ")).expect("a command").1;
    let programs = Path::new(env!("CARGO_BIN_EXE_train")).parent().expect("a folder");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("PATH={}:$PATH; {command}", programs.display())]).current_dir(place.path("."));
    Said::of(&shell.output().expect("sh runs"))
}

#[test]
fn failed_step_is_saved_and_replays_identically() {
    let place = Place::new();
    place.write(
        "small.toml",
        SMALL.replace("lr = 3e-3", "lr = 1e30\nweight_decay = 0.0").replace("clip = 0.5", "clip = 0"),
    );
    // The last good checkpoint is that of the previous step.
    let args = ["--config", "small.toml", "--out", "a run", "--set", "schedule.warmup_steps=0"];
    let said = place.train(&[&args[..], &["--set", "train.checkpoint_every=1"]].concat());
    said.fails(1, &["not finite, not applied", "first not finite: ", "train --verify \"a run/doctor/step-"]);
    let again = replay(&place, &said);
    assert_eq!(again.code, 1, "{}", again.stderr);
    let first_line = said.stderr.lines().find(|line| line.contains("not finite")).expect("words");
    assert_eq!(first_line.trim_start_matches("error: "), again.stdout.trim());
    assert!(place.train(&["--check", "a run"]).succeeds().stdout.contains("step-00000001: whole"));
    // The kept step is verified like a checkpoint.
    let doctor =
        std::fs::read_dir(place.path("a run/doctor")).expect("a folder").next().expect("a step").expect("it");
    let batch = doctor.path().join("batch.json");
    let text = std::fs::read_to_string(&batch).expect("a batch");
    for damaged in [text.replacen("\"rows\":4", "\"rows\":5", 1), "[]".to_owned(), text[1..].to_owned()] {
        std::fs::write(&batch, damaged).expect("written");
        replay(&place, &said).fails(1, &["batch.json"]);
    }
    std::fs::write(&batch, text).expect("written");
    std::fs::write(doctor.path().join("before/train_state.json"), "{}").expect("written");
    replay(&place, &said).fails(1, &["before is damaged: train_state.json"]);
}

#[test]
fn loss_spikes_are_skipped_counted_and_resumed() {
    let place = Place::new();
    let spiky =
        ["train.on_spike=skip", "train.spike_factor=1.0000001", "train.spike_after=1", "optimizer.lr=1.0"];
    let spiky: Vec<&str> = spiky.iter().flat_map(|item| ["--set", item]).collect();
    let args = [&["--config", "small.toml", "--json"][..], &spiky].concat();
    // At this learning rate the run may end as diverged; its counts are the same.
    let whole = place.train(&args).json();
    assert!(whole["skipped_steps"].as_u64().expect("a count") > 0, "{whole}");
    assert!(place.read("runs/small/metrics.jsonl").contains("\"skipped\":true"));
    let state: Value =
        serde_json::from_str(&place.read("runs/small/checkpoints/step-00000012/train_state.json"))
            .expect("JSON");
    assert_eq!(state["skipped_steps"], whole["skipped_steps"]);
    assert_eq!(state["updates"], 12 - whole["skipped_steps"].as_u64().expect("a count"));
    let part = [&args[..], &["--out", "part", "--set", "train.steps=6", "--set", "schedule.total_steps=12"]]
        .concat();
    place.train(&part).json();
    let rest = [&args[..], &["--out", "part", "--resume", "--set", "schedule.total_steps=12"]].concat();
    let rest = place.train(&rest).json();
    assert_eq!((&rest["skipped_steps"], &rest["digest"]), (&whole["skipped_steps"], &whole["digest"]));
    place.train(&["--verify", "part"]).succeeds();
    let stop = [&args[..], &["--out", "stop", "--set", "train.on_spike=stop"]].concat();
    let said = place.train(&stop);
    said.fails(1, &["the loss spiked to", "times the running mean"]);
    let again = replay(&place, &said);
    assert_eq!(again.code, 1, "{}", again.stderr);
    assert!(said.stderr.contains(again.stdout.trim()) && again.stdout.contains("spiked"), "{}", again.stdout);
}

mod needs_tensorboard {
    use super::*;

    /// Reads the event files with TensorBoard itself.
    #[test]
    #[ignore = "needs VULPES_TENSORBOARD_PYTHON with tensorboard"]
    fn tensorboard_reads_the_event_files() {
        let python = std::env::var_os("VULPES_TENSORBOARD_PYTHON")
            .expect("VULPES_TENSORBOARD_PYTHON names a Python with tensorboard");
        let place = Place::new();
        place
            .train(&["--config", "small.toml", "--set", "train.steps=6", "--set", "schedule.total_steps=12"])
            .succeeds();
        place.train(&["--config", "small.toml", "--resume", "--set", "schedule.total_steps=12"]).succeeds();
        let script = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]); events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))";
        let output =
            Command::new(python).args(["-c", script]).arg(place.path("runs/small")).output().expect("python");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        for tag in ["train/loss", "train/learning_rate", "train/grad_norm", "perf/tokens_per_second"] {
            let steps: Vec<u64> =
                read[tag].as_array().expect(tag).iter().filter_map(|point| point[0].as_u64()).collect();
            assert_eq!(steps, (1..=12).collect::<Vec<_>>(), "{tag}");
        }
        assert!(read["eval/loss"].as_array().is_some_and(|points| points.len() == 2));
        let written: Vec<Value> = place
            .read("runs/small/metrics.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        for (tag, key) in [("train/loss", "loss"), ("train/learning_rate", "lr"), ("eval/loss", "val_loss")] {
            let ours = written.iter().filter_map(|line| line.get(key)?.as_f64()).map(|value| value as f32);
            let theirs = read[tag].as_array().expect(tag).iter().filter_map(|point| point[1].as_f64());
            assert!(ours.eq(theirs.map(|value| value as f32)), "{tag}");
        }
    }
}

/// A run whose loss ends far above its start has failed, whatever it wrote.
#[test]
fn a_diverging_run_fails() {
    let place = Place::new();
    let args = ["--config", "small.toml", "--set", "optimizer.lr=10", "--set", "optimizer.clip=0"];
    let args = [&args[..], &["--set", "train.steps=60", "--json"]].concat();
    let said = place.train(&args);
    said.fails(1, &["the training diverges", "ended without learning anything", "optimizer.lr"]);
    assert!(said.json()["diverged"].is_string() && !said.stderr.contains("try:"), "{}", said.stderr);
    assert!(said.stderr.lines().all(|line| line.len() < 400), "{}", said.stderr);
    let quiet = place.train(&[&args[..], &["--quiet", "--overwrite"]].concat());
    quiet.fails(1, &["error: the training diverges"]);
}

/// Nothing is allocated for a run that doesn't fit the machine.
#[test]
fn a_run_that_exceeds_the_memory_is_refused_and_names_keys() {
    let place = Place::new();
    let train = |set: &[&str]| {
        let sets = set.iter().flat_map(|set| ["--set", *set]);
        place.train(&["--config", "small.toml"].into_iter().chain(sets).collect::<Vec<_>>())
    };
    train(&["train.batch_rows=4000000000"])
        .fails(2, &["of memory, and this machine has", "train.batch_rows = 4000000000"]);
    train(&["model.d_model=400000", "model.d_ff=4"]).fails(2, &["model.d_model = 400000", "parameters"]);
}
