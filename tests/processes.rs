//! A run of several processes is bit-identical to that of one.
//!
//! Processes are threads here, except under `mpirun` (`--features vulpes-cli/mpi`).

use std::path::Path;
use std::process::Command;

use vulpes_collective::{Processes, threads};
use vulpes_runs::checkpoint::files::Disk;
use vulpes_runs::{FitOptions, Plan, PlanOptions, RunConfig, Summary, fit};
use vulpes_trainer::STACK_BYTES;

use crate::support::{Place, SMALL, timeless_metrics};

pub(crate) const NEVER: u64 = u64::MAX;

fn plan(dir: &Path, text: &str, overrides: &[&str], processes: &Processes) -> vulpes_runs::Result<Plan> {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    let config = RunConfig::parse("test", text, &overrides).unwrap_or_else(|faults| panic!("{faults}"));
    let device = Some("cpu".to_owned());
    let (run_dir, processes) = (dir.to_path_buf(), processes.clone());
    Plan::new(config, &PlanOptions { device, run_dir, processes, ..PlanOptions::default() }, &())
}

/// The result of each of `size` processes that train in `dir` up to step `stop`, which only one of them is told;
/// `overrides` returns the config of each.
fn run(
    dir: &Path,
    size: usize,
    when: (bool, u64),
    overrides: &(impl Fn(usize) -> Vec<&'static str> + Sync),
) -> Vec<vulpes_runs::Result<Summary>> {
    run_of(SMALL, dir, size, when, overrides)
}

/// The same of another config.
pub(crate) fn run_of(
    text: &str,
    dir: &Path,
    size: usize,
    (resume, stop): (bool, u64),
    overrides: &(impl Fn(usize) -> Vec<&'static str> + Sync),
) -> Vec<vulpes_runs::Result<Summary>> {
    let one = |processes: &Processes| {
        let plan = plan(dir, text, &overrides(processes.rank()), processes)?;
        let told = processes.rank() == size - 1;
        let stop = |step: u64| (told && step >= stop).then_some(143);
        let options =
            FitOptions { resume, overwrite: false, explicit: Vec::new(), stop: &stop, files: &Disk };
        fit(&plan, &options, &mut ())
    };
    std::thread::scope(|scope| {
        let start = |processes: Processes| {
            let run = move || one(&processes);
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run).expect("a thread")
        };
        let running: Vec<_> = threads(size).into_iter().map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// The digest that all processes agree upon, and the metrics.
pub(crate) fn digest(dir: &Path, ended: Vec<vulpes_runs::Result<Summary>>) -> (String, Vec<String>) {
    let digests: Vec<String> = ended.into_iter().map(|summary| summary.expect("a run").digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    (digests[0].clone(), timeless_metrics(dir))
}

#[test]
fn any_number_of_processes_gives_the_run_of_one() {
    let dir = tempfile::tempdir().expect("a folder");
    for settings in [
        vec!["train.threads=1"],
        vec!["train.threads=2", "optimizer.kind=sgd", "optimizer.lr=0.05", "train.dtype=float64"],
        vec!["train.threads=1", "model.family=bert", "objective.kind=masked_token", "train.shards=2"],
    ] {
        let at = |name: String| dir.path().join(format!("{}-{name}", settings.join("-")));
        let one = at("one".into());
        let whole = digest(&one, run(&one, 1, (false, NEVER), &|_| settings.clone()));
        for size in [2, 3, 5] {
            let dir = at(format!("of {size}"));
            assert!(
                digest(&dir, run(&dir, size, (false, NEVER), &|_| settings.clone())) == whole,
                "{size} processes"
            );
        }
        // Stopped by a signal to one of them, and resumed by another number.
        let dir = at("changing".into());
        for (at, (size, stop)) in [(3, 4), (1, 5), (4, 7), (2, NEVER)].into_iter().enumerate() {
            let ended = run(&dir, size, (at > 0, stop), &|_| settings.clone());
            if stop < NEVER {
                for summary in ended {
                    let summary = summary.expect("a run");
                    assert_eq!((summary.step, summary.stopped), (stop, Some(143)));
                }
            } else {
                assert!(digest(&dir, ended) == whole, "resumed by other numbers of processes");
            }
        }
    }
}

#[test]
fn processes_with_different_configs_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("run");
    let ended = run(&dir, 3, (false, NEVER), &|rank| {
        vec![["train.steps=12", "train.steps=12", "train.steps=11"][rank]]
    });
    for error in ended.into_iter().map(|summary| summary.expect_err("a refusal")) {
        assert_eq!(error.exit_code(), 2);
        let words = error.to_string();
        assert!(words.contains("process 2 of 3: was started differently from process 0"), "{words}");
        assert!(words.contains("train.steps: 12 → 11"), "{words}");
    }
    assert!(!dir.exists(), "nothing was begun");
}

#[test]
fn a_failure_of_the_first_process_stops_all() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("run");
    digest(&dir, run(&dir, 2, (false, NEVER), &|_| vec![]));
    for error in
        run(&dir, 2, (false, NEVER), &|_| vec![]).into_iter().map(|summary| summary.expect_err("a refusal"))
    {
        assert!(error.to_string().contains("already holds a run, up to step 12"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn more_processes_than_parts_of_a_step_are_refused() {
    let all = threads(3);
    let refused = plan(Path::new("."), SMALL, &["train.shards=1", "train.accumulate=2"], &all[0]);
    let error = refused.err().expect("a refusal");
    assert!(
        error.to_string().contains("3 processes are too many: a step of this config has 2 parts"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}

/// Built without MPI, a program refuses to run as one of several processes.
#[cfg(not(feature = "mpi"))]
#[test]
fn without_mpi_a_launcher_is_refused() {
    let place = Place::new();
    for (launcher, variable) in [("mpirun", "OMPI_COMM_WORLD_SIZE"), ("srun", "SLURM_STEP_NUM_TASKS")] {
        let output =
            place.command(&["--config", "small.toml"]).env(variable, "2").output().expect("train runs");
        let words = [
            format!("{launcher} has started this program as 2 processes"),
            "--features vulpes-cli/mpi".into(),
        ];
        crate::support::Said::of(&output).fails(2, &words.each_ref().map(String::as_str));
        let output = place.command(&["--config", "small.toml", "--dry-run"]).env(variable, "1").output();
        crate::support::Said::of(&output.expect("train runs")).succeeds();
    }
    assert!(!place.path("runs").exists());
}

/// `mpirun` in a folder, not started yet.
fn mpirun(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    // Such tests run concurrently: none may bind its processes to the same cores as another.
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]).args(args);
    command.current_dir(place.path("")).stdin(std::process::Stdio::null());
    command
}

mod needs_mpirun;
