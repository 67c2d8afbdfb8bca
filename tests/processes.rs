//! A run that several processes share is the run of one process, to the bit, whatever ends one of them. Here processes are
//! threads, but for those under `mpirun`, which need the programs built with `--features vulpes-cli/mpi`.

use std::path::Path;
use std::process::Command;

use vulpes_collective::{Processes, threads};
use vulpes_runs::checkpoint::files::Disk;
use vulpes_runs::{FitOptions, Plan, PlanOptions, RunConfig, Summary, fit};
use vulpes_trainer::STACK_BYTES;

use crate::support::{Place, SMALL, timeless_metrics};

const NEVER: u64 = u64::MAX;

fn plan(dir: &Path, overrides: &[&str], processes: &Processes) -> vulpes_runs::Result<Plan> {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    let config = RunConfig::parse("test", SMALL, &overrides).unwrap_or_else(|faults| panic!("{faults}"));
    let device = Some("cpu".to_owned());
    let (run_dir, processes) = (dir.to_path_buf(), processes.clone());
    Plan::new(config, &PlanOptions { device, run_dir, processes, ..PlanOptions::default() }, &())
}

/// What each of `size` processes comes to that train in `dir` until after step `stop`, which one of them hears of alone;
/// `overrides` says which config each has.
fn run(
    dir: &Path,
    size: usize,
    (resume, stop): (bool, u64),
    overrides: &(impl Fn(usize) -> Vec<&'static str> + Sync),
) -> Vec<vulpes_runs::Result<Summary>> {
    let one = |processes: &Processes| {
        let plan = plan(dir, &overrides(processes.rank()), processes)?;
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
fn digest(dir: &Path, ended: Vec<vulpes_runs::Result<Summary>>) -> (String, Vec<String>) {
    let digests: Vec<String> = ended.into_iter().map(|summary| summary.expect("a run").digest).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    (digests[0].clone(), timeless_metrics(dir))
}

#[test]
fn any_number_of_processes_is_the_run_of_one() {
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
        // Stopped by a signal that one of them heard, and resumed by another number.
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
        assert!(words.contains("process 2 of 3: started otherwise than process 0"), "{words}");
        assert!(words.contains("train.steps: 12 → 11"), "{words}");
    }
    assert!(!dir.exists(), "nothing was begun");
}

#[test]
fn what_stops_the_first_process_stops_all() {
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
    let refused = plan(Path::new("."), &["train.shards=1", "train.accumulate=2"], &all[0]);
    let error = refused.err().expect("a refusal");
    assert!(
        error.to_string().contains("3 processes are too many: a step of this config has 2 parts"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}

/// Built without MPI, a program never runs beside its likes as if it were alone.
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
    // Several such tests run at once: none may bind its processes to the same cores as another.
    command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]).args(args);
    command.current_dir(place.path("")).stdin(std::process::Stdio::null());
    command
}

mod needs_mpirun {
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::support::{Said, kill};

    const TRAIN: &str = env!("CARGO_BIN_EXE_train");
    const FOX: &[&str] =
        &["--config", "fox-multihead.toml", "--set", "train.shards=4", "--threads", "1", "--json"];

    /// Runs `train` as `n` processes.
    fn train(place: &Place, n: usize, args: &[&str]) -> Said {
        Said::of(
            &mpirun(place, &[&["-n", &n.to_string(), TRAIN], args].concat()).output().expect("mpirun runs"),
        )
    }

    fn start(place: &Place, n: usize, args: &[&str]) -> Child {
        let mut command = mpirun(place, &[&["-n", &n.to_string(), TRAIN], args].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mpirun starts")
    }

    /// The system's numbers of the processes that `mpirun` has started, once there are `n`.
    fn ranks(mpirun: &Child, n: usize) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", mpirun.id());
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            let found: Vec<u32> = text.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            if found.len() >= n || Instant::now() > until {
                return found;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !what() {
            assert!(Instant::now() < until, "it doesn't come");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn out(name: &str) -> Vec<&str> {
        [FOX, &["--out", name]].concat()
    }

    fn digest(said: &Said) -> String {
        said.succeeds().json()["digest"].as_str().expect("a digest").to_owned()
    }

    #[test]
    #[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
    fn the_fox_is_the_same_on_any_number_of_processes() {
        let place = Place::new();
        let alone = place.train(&out("alone"));
        let wanted = (digest(&alone), timeless_metrics(&place.path("alone")));
        for n in 1..=4 {
            let name = format!("of-{n}");
            let said = train(&place, n, &out(&name));
            assert!((digest(&said), timeless_metrics(&place.path(&name))) == wanted, "{n} processes");
            assert_eq!(said.stderr.matches("done: 300 steps").count(), 1, "{}", said.stderr);
            place.train(&["--check", &name]).succeeds();
        }
        // What several wrote one reads, and the other way round.
        let said = place.train(&["--verify", "of-3", "--from", "250", "--to", "300"]);
        assert_eq!(said.succeeds().stdout, "steps 251 to 300: identical\n");
        let eval = |said: Said| said.succeeds().stdout.clone();
        let args = [&out("of-2")[..], &["--eval"]].concat();
        assert_eq!(eval(train(&place, 2, &args)), eval(place.train(&args)));
    }

    #[test]
    #[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
    fn a_signal_to_one_process_stops_all_after_a_checkpoint() {
        let place = Place::new();
        let args = [FOX, &["--set", "train.steps=3000", "--set", "train.checkpoint_every=100"]].concat();
        let whole = digest(&place.train(&[&args[..], &["--out", "whole"]].concat()));
        let args = [&args[..], &["--out", "run"]].concat();
        let child = start(&place, 3, &args);
        wait_for(|| place.path("run/checkpoints/latest").exists());
        kill("TERM", ranks(&child, 3)[1]);
        Place::wait(child).fails(143, &["stopped by SIGTERM", "--resume"]);
        place.train(&["--check", "run"]).succeeds();
        assert_eq!(digest(&train(&place, 2, &[&args[..], &["--resume"]].concat())), whole);
    }

    #[test]
    #[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
    fn a_process_that_is_held_up_holds_up_the_others() {
        let place = Place::new();
        let args = [FOX, &["--set", "train.steps=1000"]].concat();
        let whole = digest(&place.train(&[&args[..], &["--out", "whole"]].concat()));
        let child = start(&place, 2, &[&args[..], &["--out", "run"]].concat());
        let held = ranks(&child, 2)[1];
        wait_for(|| place.path("run/checkpoints/latest").exists());
        kill("STOP", held);
        std::thread::sleep(Duration::from_secs(3));
        let before = place.read("run/metrics.jsonl");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(place.read("run/metrics.jsonl"), before, "it went on without the one that is held up");
        kill("CONT", held);
        assert_eq!(digest(&Place::wait(child)), whole);
    }

    #[test]
    #[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
    fn what_does_not_go_together_is_refused() {
        let place = Place::new();
        let one = ["-n", "1", TRAIN, "--config", "small.toml", "--set"];
        let args = [&one[..], &["optimizer.lr=1e-3", ":"], &one[..], &["optimizer.lr=2e-3"]].concat();
        let said = Said::of(&mpirun(&place, &args).output().expect("mpirun runs"));
        said.fails(2, &["process 1 of 2: started otherwise than process 0", "optimizer.lr: 0.001 → 0.002"]);
        assert!(!place.path("runs").exists());
        train(&place, 10, &["--config", "small.toml"])
            .fails(2, &["10 processes are too many", "has 9 parts"]);
        train(&place, 2, &["--list"]).fails(2, &["are for one process"]);
        train(&place, 2, &["--config", "none.toml"]).fails(2, &["none.toml"]);
        // What one of them alone can't do ends all.
        let args =
            ["-n", "1", TRAIN, "--config", "small.toml", ":", "-n", "1", TRAIN, "--config", "none.toml"];
        let said = Said::of(&mpirun(&place, &args).output().expect("mpirun runs"));
        said.fails(2, &["process 1 of 2: ", "none.toml"]);
        assert!(!place.path("runs").exists());
        // Two runs in one folder.
        let args = ["--config", "small.toml", "--set", "train.steps=100000", "--threads", "1"];
        let child = start(&place, 2, &args);
        wait_for(|| place.path("runs/small/checkpoints/latest").exists());
        train(&place, 2, &[&args[..], &["--resume"]].concat()).fails(1, &["is in use by process"]);
        ranks(&child, 2).iter().for_each(|id| kill("KILL", *id));
        Place::wait(child);
    }

    #[test]
    #[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
    fn bench_shows_what_sharing_takes() {
        let launcher = "mpirun --allow-run-as-root --oversubscribe --bind-to none";
        let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
        bench.args([
            "--config",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/bench/a.toml"),
            "--processes",
            "1,2,4",
        ]);
        bench.args(["--threads", "2", "--rounds", "1", "--steps", "2", "--json", "--launcher", launcher]);
        let said = Said::of(&bench.stdin(Stdio::null()).output().expect("bench runs"));
        let report = said.succeeds().json();
        let of = |number: usize, key: &str| {
            report["processes"][0]["numbers"][number]["shared"][key].as_f64().unwrap()
        };
        let near =
            |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.1, "{found}, wanted {wanted}");
        let whole = of(0, "optimizer_mib");
        assert_eq!(of(0, "sent_mib"), 0.0);
        near(of(1, "optimizer_mib"), whole / 2.0);
        near(of(2, "optimizer_mib"), whole / 4.0);
        // Two moments are twice the parameters; of these and of their gradients (N - 1)/N are sent.
        near(of(1, "sent_mib"), whole / 2.0);
        near(of(2, "sent_mib"), whole * 0.75);
    }

    /// Kills a process of a run again and again, and goes on with another number of them.
    fn survives(kills: usize) {
        let place = Place::new();
        let args = [
            FOX,
            &["--set", "train.steps=600", "--set", "train.checkpoint_every=20", "--set", "train.film=false"],
        ]
        .concat();
        let whole = digest(&place.train(&[&args[..], &["--out", "whole"]].concat()));
        let mut random = vulpes_random::Key::new(1, "kills").stream();
        let (mut done, mut finished, mut told) = (0, 0, 0);
        let mut slowest = Duration::ZERO;
        while done < kills {
            let name = format!("run-{finished}");
            let n = 2 + random.below(3) as usize;
            let began = place.path(&name).exists();
            let mut args = [&args[..], &["--out", &name]].concat();
            args.extend(began.then_some("--resume"));
            let mut child = start(&place, n, &args);
            let ids = ranks(&child, n);
            std::thread::sleep(Duration::from_millis(200 + random.below(1200)));
            if child.try_wait().expect("a state").is_some() {
                assert_eq!(digest(&Place::wait(child)), whole, "after {done} kills");
                finished += 1;
                continue;
            }
            let killed = Instant::now();
            // It may have come to its end just now.
            let _ = Command::new("kill")
                .args(["-KILL", &ids[random.below(n as u64) as usize].to_string()])
                .output();
            let said = Place::wait(child);
            slowest = slowest.max(killed.elapsed());
            if said.code == 0 {
                assert_eq!(digest(&said), whole, "after {done} kills");
                finished += 1;
                continue;
            }
            done += 1;
            told += usize::from(said.stderr.contains("has ended before its time"));
            if place.path(&format!("{name}/checkpoints/latest")).exists() {
                place.train(&["--check", &name]).succeeds();
            }
            // The processes are gone: nobody holds the folder.
            wait_for(|| ids.iter().all(|id| !Path::new(&format!("/proc/{id}")).exists()));
        }
        let name = format!("run-{finished}");
        let resume: &[&str] = if place.path(&name).exists() { &["--resume"] } else { &[] };
        assert_eq!(digest(&train(&place, 3, &[&args[..], &["--out", &name], resume].concat())), whole);
        eprintln!(
            "{done} kills over {finished} finished runs; all ended within {slowest:?}; {told} were told by another"
        );
        assert!(slowest < Duration::from_secs(60), "the others hung");
    }

    #[test]
    #[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
    fn sixty_killed_processes_leave_the_same_bits() {
        survives(60);
    }
}
