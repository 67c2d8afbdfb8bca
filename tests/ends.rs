//! Runs that end by time budget or loss, and the moving average of the weights.

use std::path::Path;

use candle_core::{Device, Tensor};
use vulpes_runs::checkpoint::read_state;
use vulpes_runs::verify;
use vulpes_trainer::Cooldown;

use crate::support::{Place, SMALL, plan, timeless_metrics, train};

const NEVER: u64 = u64::MAX;

const BUDGET: &[&str] = &[
    "schedule.kind=wsd",
    "schedule.decay_fraction=0.6",
    "train.budget_minutes=0.1",
    "train.steps=1000000",
    "train.eval_every=100",
    "train.checkpoint_every=50",
    "train.keep_last=1000000",
];

fn rates(dir: &Path) -> Vec<f64> {
    let lines = timeless_metrics(dir).into_iter();
    lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok()?["lr"].as_f64()).collect()
}

/// The steps of a checkpoint folder, in order.
fn saved(dir: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(dir.join("checkpoints")).expect("checkpoints").flatten();
    let step = |name: String| name.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> =
        names.filter_map(|entry| step(entry.file_name().to_string_lossy().into_owned())).collect();
    steps.sort_unstable();
    steps
}

/// The clock decides the cooldown once; from then on every bit follows from the checkpoint.
#[test]
fn a_budget_decides_the_cooldown_and_a_resume_keeps_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let run = dir.path().join("run");
    let of_run = plan(&run, SMALL, BUDGET);
    let summary = train(&of_run, false, NEVER).expect("a run");
    let last = run.join("checkpoints").join(format!("step-{:08}", summary.step));
    let Cooldown { from, last } = read_state(&last).expect("a state").cooldown.expect("a cooldown");
    assert_eq!((summary.step, summary.stopped), (last, None));
    assert!(3 < from && from < last && last < 1_000_000, "{from} to {last}");
    let found = rates(&run);
    assert!(found[3..from as usize].iter().all(|rate| *rate == found[3]), "the rate is constant until then");
    assert!(found[from as usize..].windows(2).all(|pair| pair[1] < pair[0]), "and falls from then on");
    assert!((found[found.len() - 1] - 1e-4).abs() < 1e-12);
    assert_eq!(verify(&of_run, Some(0), Some(last)).expect("a replay").difference, None);

    // Back to the middle of the cooldown, and resume.
    let lines = timeless_metrics(&run);
    let middle = saved(&run).into_iter().find(|step| *step > from).expect("a checkpoint in the cooldown");
    for step in saved(&run).into_iter().filter(|step| *step > middle) {
        std::fs::remove_dir_all(run.join(format!("checkpoints/step-{step:08}"))).expect("removed");
    }
    let again = train(&plan(&run, SMALL, BUDGET), true, NEVER).expect("the rest");
    assert_eq!((again.step, again.digest), (summary.step, summary.digest));
    assert_eq!(timeless_metrics(&run), lines);
}

#[test]
fn a_run_ends_once_its_loss_is_low_enough() {
    let place = Place::new();
    let args = ["--config", "small.toml", "--set", "train.until_loss=100", "--json"];
    let said = place.train(&args);
    assert_eq!(said.succeeds().json()["step"], 6, "at the first evaluation");
    assert!(said.stderr.contains("ended at step 6 of 12: validation loss"), "{}", said.stderr);
    let again = place.train(&[&args[..], &["--resume"]].concat());
    assert_eq!(again.succeeds().json()["step"], 6);
}

fn tensors(path: &Path) -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).expect("tensors")
}

/// The model of a run with `train.ema` has the averaged weights; steps continue from the weights themselves.
#[test]
fn the_averaged_weights_are_saved_as_the_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mean, plain) = (dir.path().join("mean"), dir.path().join("plain"));
    train(&plan(&mean, SMALL, &["train.ema=0.9"]), false, NEVER).expect("a run");
    train(&plan(&plain, SMALL, &[]), false, NEVER).expect("a run");
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let last = "checkpoints/step-00000012";
    let state = tensors(&mean.join(last).join("train_state.safetensors"));
    let (ours, theirs) = (
        tensors(&mean.join(last).join("model.safetensors")),
        tensors(&plain.join(last).join("model.safetensors")),
    );
    let (name, stored) = ("embedding.token.weight", "transformer.wte.weight");
    assert_eq!(flat(&state[&format!("ema.{name}")]), flat(&ours[stored]));
    assert_eq!(flat(&state[&format!("param.{name}")]), flat(&theirs[stored]), "it changes no step");
    assert_ne!(flat(&ours[stored]), flat(&theirs[stored]));
}
