//! `bench --study`: variants of a config, each with several seeds, trained one after the other and compared.
//!
//! file ([`StudyFile`]) → a run folder for each variant and seed, skipped if finished and resumed if interrupted → the
//! runs' validation losses ([`Curve`]) → mean, spread and Welch's p-value against the first variant.

mod curve;
mod file;
mod statistics;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use vulpes_runs::checkpoint::files::Disk;
use vulpes_runs::{FitOptions, Plan, PlanOptions, RunConfig, Summary, find_config, fit};
use vulpes_trainer::STACK_BYTES;

use crate::ending::say;
use crate::signals::Signals;
use curve::Curve;
use file::{StudyFile, Variant};
use table::{Runs, document, table};

/// The file that marks a finished run of a study and records its config and overrides.
const DONE: &str = "study.json";

/// Runs the unfinished part of a study and prints its table, or one JSON document.
///
/// Its runs go one after the other, on a stack large enough for any model. Returns the exit code of the signal that
/// stopped it, if any.
///
/// # Errors
/// Returns an error if the file is wrong, a run fails, or a folder holds a run of another config.
pub(super) fn study(file: &Path, threads: Option<usize>, as_json: bool) -> Result<u8> {
    let study = StudyFile::read(file)?;
    let signals = Signals::install()?;
    let run = || run(&study, file, threads, as_json, &signals);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("study".into()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, run)?.join().map_err(|_| anyhow!("the study's thread has ended"))?
    })
}

fn run(
    study: &StudyFile,
    file: &Path,
    threads: Option<usize>,
    as_json: bool,
    signals: &Signals,
) -> Result<u8> {
    let stem = file.file_stem().unwrap_or_default();
    let root = study.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
    // A variant that can't be run is reported before the first run.
    for variant in &study.variants {
        read_config(&study.config, &sets_of(study, variant, study.seeds[0]))
            .with_context(|| variant.name.clone())?;
    }
    let n_runs = study.variants.len() * study.seeds.len();
    let mut number = 0;
    let mut all: Vec<Runs> = Vec::new();
    for variant in &study.variants {
        let mut curves = Vec::new();
        for &seed in &study.seeds {
            number += 1;
            let dir = root.join(format!("{}-{seed}", variant.folder()));
            let sets = sets_of(study, variant, seed);
            let name = format!("{number}/{n_runs}  {}, seed {seed}", variant.name);
            if is_done(&dir, &study.config, &sets)? {
                say(&format!("{name}: already done"));
            } else {
                let summary = one(&study.config, &sets, threads, &dir, signals)
                    .with_context(|| format!("{} ({})", variant.name, dir.display()))?;
                if let Some(code) = summary.stopped {
                    say(&format!("{name}: stopped at step {}; the same command continues", summary.step));
                    return Ok(code);
                }
                let loss =
                    summary.evaluation.map_or_else(String::new, |found| format!(", loss {:.4}", found.loss));
                say(&format!("{name}: {} steps in {:.1} s{loss}", summary.step, summary.elapsed_s));
                std::fs::write(dir.join(DONE), key(&study.config, &sets)?)?;
            }
            curves.push((seed, Curve::read(&dir)?));
        }
        all.push(Runs { name: variant.name.clone(), curves });
    }
    if as_json {
        println!("{}", document(&all));
    } else {
        print!("{}", table(&all));
    }
    Ok(0)
}

/// The overrides of a variant's run.
fn sets_of(study: &StudyFile, variant: &Variant, seed: u64) -> Vec<String> {
    let all = study.set.iter().chain(&variant.set).cloned();
    all.chain([format!("train.seed={seed}")]).collect()
}

/// The config with these overrides.
///
/// # Errors
/// Returns an error if there is no such config, or with all of its faults.
fn read_config(config: &str, sets: &[String]) -> Result<RunConfig> {
    let (path, text) = find_config(Path::new(config))?;
    Ok(RunConfig::parse(&path.display().to_string(), &text, sets)?)
}

/// The key that identifies a run of a study.
fn key(config: &str, sets: &[String]) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string(&serde_json::json!({ "config": config, "set": sets }))?))
}

/// Whether the run in `dir` is done.
///
/// # Errors
/// Returns an error if the folder holds another run.
fn is_done(dir: &Path, config: &str, sets: &[String]) -> Result<bool> {
    let Ok(found) = std::fs::read_to_string(dir.join(DONE)) else { return Ok(false) };
    if found == key(config, sets)? {
        return Ok(true);
    }
    Err(anyhow!(
        "{} holds a run with other settings than the study's: {}remove it, or set another `out`",
        dir.display(),
        found
    ))
}

/// Does one run, from the start or resumed.
fn one(
    config: &str,
    sets: &[String],
    threads: Option<usize>,
    dir: &Path,
    signals: &Signals,
) -> Result<Summary> {
    let config = read_config(config, sets)?;
    let checkpoint = newest(dir);
    let options = PlanOptions {
        device: Some("cpu".to_owned()),
        run_dir: dir.to_path_buf(),
        checkpoint: checkpoint.clone(),
        threads,
        ..PlanOptions::default()
    };
    let plan = Plan::new(config, &options, &())?;
    if plan.dataset.n_validation_rows() == 0 {
        return Err(anyhow!(
            "a study compares validation losses: set data.validation or data.validation_fraction"
        ));
    }
    let stop = |_| signals.exit_code();
    // A run without a checkpoint is restarted.
    let (resume, overwrite) = (checkpoint.is_some(), checkpoint.is_none());
    let options = FitOptions { resume, overwrite, explicit: Vec::new(), stop: &stop, files: &Disk };
    Ok(fit(&plan, &options, &mut ())?)
}

/// The folder of a run's newest intact checkpoint.
fn newest(dir: &Path) -> Option<PathBuf> {
    vulpes_runs::checkpoint::newest(&dir.join("checkpoints")).ok().map(|(whole, _)| whole.path)
}
