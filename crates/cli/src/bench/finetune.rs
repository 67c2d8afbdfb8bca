//! `bench --finetune`: times training an adapter of a frozen model, with PEFT for comparison.

use std::process::Command;

use anyhow::{Context, Result};

use super::compare::{Comparison, compare};
use super::step::StepBench;
use super::worker::{Request, Worker};
use crate::called::again;
use crate::ending::say;

const PEFT: &str = include_str!("../../peers/peft_lora.py");

/// What is timed.
pub(super) struct FinetuneBench<'a> {
    pub(super) config: &'a str,
    pub(super) threads: usize,
    /// A Python with torch, transformers and peft.
    pub(super) python: Option<&'a str>,
    pub(super) rounds: usize,
    pub(super) steps: usize,
    /// The machine's peak in billions of operations per second.
    pub(super) peak: f64,
}

/// Compares our workers in float32 and bfloat16 with PEFT's, on one randomly initialized model.
///
/// # Errors
/// Returns an error if a worker fails, or there is no space for the model.
pub(super) fn bench_finetune(bench: &FinetuneBench<'_>) -> Result<Comparison> {
    let FinetuneBench { config, threads, python, rounds, steps, peak } = *bench;
    let sizes = StepBench::sizes(config, None)?;
    let dir = tempfile::tempdir().context("no space for the model")?;
    let folder = dir.path().join("model");
    sizes.write_model(&folder)?;
    let mut workers = Vec::new();
    for dtype in ["bf16", "f32"] {
        let mut command = again("bench").context("the path of this program is unknown")?;
        command.args(["--worker", "--config", config, "--threads", &threads.to_string()]);
        command.args(["--dtype", dtype, "--base-model"]).arg(&folder);
        workers.push(Worker::start(&mut command, if dtype == "f32" { " float32" } else { " bfloat16" })?);
    }
    if let Some(python) = python {
        for (name, arguments) in [(" bfloat16", &["--bf16"][..]), (" float32", &[])] {
            let mut command = Command::new(python);
            command.args(["-c", PEFT]).args(sizes.peft_arguments(&folder, threads)).args(arguments);
            workers.push(Worker::start(&mut command, name)?);
        }
    }
    say(&format!("{config}: {rounds} rounds of {steps} steps of an adapter on {threads} threads"));
    let timings = compare(&mut workers, Request::Step(steps), rounds, &mut || ())?;
    let name = std::path::Path::new(config).file_stem().map_or(config.into(), |stem| stem.to_string_lossy());
    // No products for the weights' gradients: two thirds of a full step's.
    Ok(Comparison::new(&name, timings, sizes.tokens(), sizes.flops() * 2.0 / 3.0, peak))
}
