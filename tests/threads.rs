//! The results of a run don't depend on threads, accumulation or padding.

use vulpes_runs::Session;
use vulpes_trainer::StepNumbers;

use crate::support::{Place, SMALL, plan, train};

/// The bytes of the model after fifty steps with dropout and accumulation.
fn fifty_steps(threads: usize, settings: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let threads = format!("train.threads={threads}");
    let fixed = [threads.as_str(), "train.steps=50", "train.eval_every=25", "train.checkpoint_every=0"];
    let plan = plan(&dir.path().join("run"), SMALL, &[&fixed, settings].concat());
    assert!(plan.config.train.accumulate > 1 && plan.model.dropout > 0.0);
    train(&plan, false, u64::MAX).expect("a run");
    std::fs::read(plan.run_dir.join("model/model.safetensors")).expect("a model")
}

#[test]
fn thread_count_changes_no_bit() {
    // Shards on threads; one shard, with threads inside sufficiently large operations.
    let shards: &[&str] = &["train.batch_rows=8", "train.shards=5"];
    let inside: &[&str] = &["train.shards=1", "model.d_model=256", "model.n_head=4"];
    for settings in [shards, inside] {
        let one = fifty_steps(1, settings);
        for threads in [2, 3, 4, 7] {
            assert!(one == fifty_steps(threads, settings), "{threads} threads, {settings:?}: another model");
        }
    }
}

#[test]
fn train_gives_the_same_digest_on_1_and_4_threads() {
    let place = Place::new();
    let digest = |threads: &str| {
        let out = format!("runs/{threads}");
        let args = ["--config", "small.toml", "--threads", threads, "--out", &out, "--json"];
        place.train(&args).succeeds().json()["digest"].clone()
    };
    assert_eq!(digest("1"), digest("4"));
}

/// The first two steps of 8 rows, cut into micro-batches of `rows`.
fn two_steps(rows: usize) -> Vec<StepNumbers> {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = [
        format!("train.batch_rows={rows}"),
        format!("train.accumulate={}", 8 / rows),
        "train.shards=1".to_owned(),
        "train.dtype=float64".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let plan = plan(dir.path(), SMALL, &settings);
    let (mut session, _) = Session::start(&plan).expect("a session");
    let mut steps = Vec::new();
    for _ in 0..2 {
        let mut cursor = session.training.state.cursor;
        let batches: Vec<_> = (0..8 / rows)
            .map(|_| {
                let batch = plan.dataset.batch(cursor, rows).expect("a batch");
                cursor = plan.dataset.advance(cursor, rows as u64);
                batch
            })
            .collect();
        let lengths: Vec<usize> = batches.iter().map(|batch| batch.len).collect();
        assert!(rows > 2 || lengths.iter().any(|len| *len != lengths[0]), "the padding is unequal");
        session.training.state.cursor = cursor;
        steps.push(session.training.advance(&batches).expect("a step"));
    }
    steps
}

#[test]
fn accumulation_does_not_change_the_step() {
    let whole = two_steps(8);
    for rows in [4, 2, 1] {
        for (cut, whole) in two_steps(rows).iter().zip(&whole) {
            assert!((cut.loss.loss - whole.loss.loss).abs() < 1e-6, "{cut:?} {whole:?}");
            assert!((cut.grad_norm - whole.grad_norm).abs() < 1e-6, "{cut:?} {whole:?}");
            assert_eq!(cut.loss.n_targets, whole.loss.n_targets);
        }
    }
}

#[test]
fn one_batch_can_be_overfitted() {
    let place = Place::new();
    place.write(
        "one.txt",
        "The quick brown fox jumps over the lazy dog .\nA small hare sleeps under an old oak .\n",
    );
    let settings = [
        "data.train=one.txt",
        "data.validation=[]",
        "model.dropout=0",
        "model.d_model=32",
        "train.accumulate=1",
        "train.batch_rows=2",
        "train.shards=1",
        "train.steps=300",
        "train.checkpoint_every=0",
        "optimizer.lr=1e-2",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|item| ["--set", item]).collect();
    let said = place.train(&[&["--config", "small.toml", "--json", "--quiet"][..], &settings].concat());
    let loss = said.succeeds().json()["loss"].as_f64().expect("a loss");
    // The first words of the two sentences are unpredictable: ln 2 for two of 21 targets.
    let least = 2.0 * 2f64.ln() / 21.0;
    assert!(loss > least && loss < least + 0.01, "{loss}");
}
