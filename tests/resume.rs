//! A stopped and resumed run is bit-identical to an uninterrupted one.

use std::path::Path;
use std::time::Duration;

use crate::support::{Place, SMALL, kill, plan, timeless_metrics, train};

const NEVER: u64 = u64::MAX;

/// Digest and metrics of a run stopped after each of `stops`, then finished.
fn run(dir: &Path, overrides: &[&str], stops: &[u64]) -> (String, Vec<String>) {
    let plan = plan(dir, SMALL, overrides);
    for (number, stop) in stops.iter().enumerate() {
        let summary = train(&plan, number > 0, *stop).expect("a run");
        assert_eq!((summary.step, summary.stopped), (*stop, Some(130)));
    }
    let summary = train(&plan, !stops.is_empty(), NEVER).expect("a run");
    assert_eq!(summary.stopped, None);
    (summary.digest, timeless_metrics(dir))
}

fn compare(overrides: &[&str], stops: &[Vec<u64>]) {
    let dir = tempfile::tempdir().expect("a folder");
    let whole = run(&dir.path().join("whole"), overrides, &[]);
    for stops in stops {
        let name = format!("{stops:?}");
        assert!(run(&dir.path().join(&name), overrides, stops) == whole, "stopped after {name} differs");
    }
}

#[test]
fn resume_is_bit_exact_after_any_step() {
    compare(&[], &[vec![1], vec![2], vec![5], vec![7], vec![11], vec![1, 2, 3, 8]]);
}

#[test]
fn resume_is_bit_exact_for_sgd_f64_masked_tokens_and_windows() {
    compare(&["optimizer.kind=sgd", "optimizer.lr=0.05", "train.dtype=float64"], &[vec![5]]);
    compare(&["model.family=bert", "objective.kind=masked_token"], &[vec![5]]);
    compare(&["data.rows=windows", "data.shuffle=false", "model.family=llama"], &[vec![7]]);
}

/// With ramps of momentum, weight decay, micro-batches and row length, and averaged weights.
#[test]
fn resume_is_bit_exact_while_everything_changes() {
    let ways = [
        "optimizer.kind=muon",
        "optimizer.muon.momentum_from=0.8",
        "optimizer.muon.momentum_steps=8",
        "schedule.kind=wsd",
        "schedule.decay_fraction=0.5",
        "schedule.decay_shape=sqrt",
        "schedule.weight_decay=follow_lr",
        "train.accumulate_from=1",
        "train.accumulate_ramp_steps=9",
        "train.len_from=3",
        "train.len_ramp_steps=8",
        "data.rows=windows",
        "train.ema=0.8",
    ];
    compare(&ways, &[vec![1], vec![4], vec![7, 9]]);
    compare(&["train.ema=0.9", "train.dtype=float64", "train.freeze=[\"embedding.*\"]"], &[vec![5]]);
}

/// Every step of a run of 60.
#[test]
#[ignore = "long: about five minutes"]
fn every_step_of_sixty() {
    let stops: Vec<Vec<u64>> = (1..60).map(|k| vec![k]).collect();
    compare(&["train.steps=60", "train.eval_every=7", "train.checkpoint_every=10"], &stops);
}

#[test]
fn extended_run_follows_the_longer_schedule() {
    let dir = tempfile::tempdir().expect("a folder");
    let whole = run(&dir.path().join("whole"), &["train.eval_every=6"], &[]);
    let short = dir.path().join("short");
    let settings = ["train.eval_every=6", "train.steps=6", "schedule.total_steps=12"];
    run(&short, &settings, &[]);
    let longer = plan(&short, SMALL, &["train.eval_every=6", "schedule.total_steps=12"]);
    let digest = train(&longer, true, NEVER).expect("a run").digest;
    assert_eq!((digest, timeless_metrics(&short)), whole);
}

#[test]
fn signals_save_a_checkpoint_and_set_the_exit_code() {
    let whole = Place::new();
    let args =
        ["--config", "small.toml", "--set", "train.steps=600", "--set", "train.eval_every=100", "--json"];
    let digest = whole.train(&args).succeeds().json()["digest"].clone();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let place = Place::new();
        let child = place.start(&args);
        while !place.path("runs/small/checkpoints/latest").exists() {
            std::thread::sleep(Duration::from_millis(2));
        }
        kill(signal, child.id());
        let said = Place::wait(child);
        said.fails(code, &["stopped by SIG", "--resume"]);
        let step = said.json()["step"].as_u64().expect("a step");
        assert!(step < 600, "the signal came too late to show anything");
        let resumed = place.train(&[&args[..], &["--resume"]].concat());
        assert_eq!(resumed.succeeds().json()["digest"], digest);
        assert!(resumed.stderr.contains(&format!("resuming after step {step}")), "{}", resumed.stderr);
    }
}

/// Kills a run `kills` times at moments spread over its length, resumes it each time, and compares its end.
fn survives(kills: u64) {
    let args =
        ["--config", "small.toml", "--set", "train.steps=60", "--set", "train.checkpoint_every=2", "--json"];
    let whole = Place::new();
    let began = std::time::Instant::now();
    let digest = whole.train(&args).succeeds().json()["digest"].clone();
    let length = began.elapsed();
    let mut moments = vulpes_random::Key::new(1, "kills").stream();
    let mut done = 0;
    while done < kills {
        let place = Place::new();
        std::fs::create_dir_all(place.path("runs/small")).expect("a folder");
        // Each run is killed a few times.
        for _ in 0..4 {
            let mut child = place.start(&[&args[..], &["--resume"]].concat());
            std::thread::sleep(length.mul_f64(moments.uniform_f64()));
            if child.try_wait().expect("a state").is_some() {
                break;
            }
            kill("KILL", child.id());
            // It may have just finished.
            match Place::wait(child).code {
                137 => done += 1,
                code => assert_eq!(code, 0),
            }
        }
        let resumed = place.train(&[&args[..], &["--resume"]].concat());
        assert_eq!(resumed.succeeds().json()["digest"], digest, "after {done} kills");
        assert_eq!(timeless_metrics(&place.path("runs/small")), timeless_metrics(&whole.path("runs/small")));
    }
    eprintln!("{done} kills survived");
}

#[test]
fn kill_at_a_random_moment_changes_no_bit() {
    survives(8);
}

#[test]
#[ignore = "long: some minutes"]
fn two_hundred_kills_at_any_moment_change_no_bit() {
    survives(200);
}

#[test]
fn changed_config_is_refused_unless_set_explicitly() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--set", "train.steps=3"]).succeeds();
    let resume = ["--config", "small.toml", "--resume"];
    place.write(
        "small.toml",
        SMALL.replace("lr = 3e-3", "lr = 4e-3").replace("keep_last = 3", "keep_last = 5"),
    );
    place.train(&resume).fails(2, &["was started with another config", "optimizer.lr: 0.003 → 0.004"]);
    // With another seed the rows come in another order: it is the same corpus.
    for (key, value) in [("train.seed", "7"), ("data.rows", "windows"), ("model.d_ff", "8")] {
        let (section, name) = key.split_once('.').expect("a section");
        let value = if value.parse::<u64>().is_ok() { value.to_owned() } else { format!("\"{value}\"") };
        let line = format!("[{section}]\n{name} = {value}\n");
        let kept =
            SMALL.lines().filter(|line| key != "data.rows" || !line.starts_with("rows")).collect::<Vec<_>>();
        place.write("other.toml", kept.join("\n").replacen(&format!("[{section}]\n"), &line, 1));
        let other = ["--config", "other.toml", "--out", "runs/small", "--resume"];
        place.train(&other).fails(2, &["was started with another config", key]);
    }
    let seed = ["--config", "small.toml", "--out", "runs/seed"];
    place.train(&[&seed[..], &["--set", "train.steps=3", "--set", "optimizer.lr=3e-3"]].concat()).succeeds();
    let seed = [&seed[..], &["--resume", "--set", "optimizer.lr=3e-3", "--set", "train.seed=7"]].concat();
    let wanted = ["changed since the run began: train.seed: 1 → 7", "the rows", "resuming after step 3"];
    place.train(&seed).fails(0, &wanted);
    let said = place.train(&[&resume[..], &["--set", "optimizer.lr=4e-3"]].concat());
    said.fails(0, &["changed since the run began: optimizer.lr: 0.003 → 0.004", "train.keep_last: 3 → 5"]);
}

/// With other sizes the weights would belong to another model, and with other heads they would have another meaning.
#[test]
fn a_run_is_never_resumed_as_another_model() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--set", "train.steps=3"]).succeeds();
    let written = place.read("runs/small/config.toml");
    for set in ["model.d_model=32", "model.n_head=1", "model.window=2", "data.tokenizer.kind=char"] {
        let key = set.split_once('=').expect("a key").0;
        let said = place.train(&["--config", "small.toml", "--resume", "--set", set]);
        said.fails(2, &[&format!("  {key}: "), "its weights were trained as that model", "--out"]);
        assert_eq!(place.read("runs/small/config.toml"), written, "{set} was written down");
    }
    place.train(&["--check", "runs/small"]).fails(0, &[]);
    // A manual edit of the run's config is detected by everything that reads it.
    place.write("runs/small/config.toml", written.replace("n_head = 2", "n_head = 4"));
    let said = place.train(&["--check", "runs/small"]);
    assert_eq!(said.code, 1, "{}", said.stdout);
    let wanted = "config.toml: describes another model than checkpoints/step-00000003: model.n_head: 2 → 4";
    assert!(said.stdout.contains(wanted), "{}", said.stdout);
    place.train(&["--verify", "runs/small"]).fails(2, &["model.n_head: 2 → 4"]);
}

#[test]
fn resuming_without_a_run_is_reported() {
    let place = Place::new();
    place
        .train(&["--config", "small.toml", "--resume"])
        .fails(2, &["runs/small: no such folder", "--resume"]);
    std::fs::create_dir_all(place.path("runs/small")).expect("a folder");
    let said = place.train(&["--config", "small.toml", "--resume"]);
    said.fails(0, &["no run in runs/small yet: starting from the beginning"]);
    let again = place.train(&["--config", "small.toml", "--resume"]);
    again.fails(0, &["nothing to do: all 12 steps are done", "train.steps=24"]);
    assert!(!again.stderr.contains("done: "), "{}", again.stderr);
}

#[test]
fn overwriting_keeps_the_old_run_until_the_new_one_has_a_checkpoint() {
    let place = Place::new();
    let args = ["--config", "small.toml", "--overwrite", "--json"];
    place.write("runs/small/notes.txt", "mine");
    let digest = place.train(&args).succeeds().json()["digest"].clone();
    let before = place.read("runs/small/metrics.jsonl");
    // A run without a checkpoint: the first step fails, and the old run is kept aside.
    let broken = [&args[..], &["--set", "optimizer.lr=0.5", "--set", "train.on_spike=stop"]].concat();
    let broken =
        [&broken[..], &["--set", "train.spike_after=1", "--set", "train.spike_factor=1.0000001"]].concat();
    let broken =
        [&broken[..], &["--set", "train.checkpoint_every=0", "--set", "train.eval_every=0"]].concat();
    for _ in 0..2 {
        assert_eq!(place.train(&broken).code, 1);
        assert_eq!(place.read("runs/small/.replaced/metrics.jsonl"), before);
        assert!(place.path("runs/small/.replaced/model/model.safetensors").exists());
    }
    assert_eq!(place.train(&args).succeeds().json()["digest"], digest, "a trace of the old run is left");
    assert!(!place.path("runs/small/.replaced").exists());
    assert_eq!(place.read("runs/small/notes.txt"), "mine");
    assert_eq!(timeless_metrics(&place.path("runs/small")).len(), before.lines().count());
}

#[test]
fn changed_corpus_is_refused_unless_set_explicitly() {
    let place = Place::new();
    let corpus = vulpes_data::embedded("data/fox.txt").expect("the fox");
    place.write("own.txt", corpus);
    let own = |steps: &str| SMALL.replace("data/fox.txt", "own.txt").replace("steps = 12", steps);
    place.write("small.toml", own("steps = 6"));
    place.train(&["--config", "small.toml"]).succeeds();
    place.write("small.toml", own("steps = 12"));
    place.write("own.txt", corpus.replace("The", "the"));
    let resume = ["--config", "small.toml", "--resume"];
    place.train(&resume).fails(2, &["the corpus: its size or rows differ", "--set data.train"]);
    let insisted = place.train(&[&resume[..], &["--set", "data.train=own.txt"]].concat());
    insisted.fails(0, &["changed since the run began: the rows", "resuming after step 6"]);
}

#[test]
fn existing_run_is_not_overwritten() {
    let place = Place::new();
    place.train(&["--config", "small.toml"]).succeeds();
    let before = place.read("runs/small/metrics.jsonl");
    place.train(&["--config", "small.toml"]).fails(2, &["already holds a run, up to step 12", "--overwrite"]);
    assert_eq!(place.read("runs/small/metrics.jsonl"), before);
    place.train(&["--config", "small.toml", "--out", "runs/other"]).succeeds();
}

#[test]
fn second_process_in_a_run_folder_is_refused() {
    let place = Place::new();
    let child = place.start(&["--config", "small.toml", "--set", "train.steps=100000"]);
    while !place.path("runs/small/checkpoints/latest").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let words = format!("in use by process {}, started ", child.id());
    place.train(&["--config", "small.toml", "--resume"]).fails(1, &[&words]);
    kill("INT", child.id());
    assert_eq!(Place::wait(child).code, 130);
}
