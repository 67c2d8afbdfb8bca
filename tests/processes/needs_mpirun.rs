//! Runs under a real launcher: signals, delayed or killed processes, and `bench --processes`.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::support::{Said, kill};

const TRAIN: &str = env!("CARGO_BIN_EXE_train");
const FOX: &[&str] =
    &["--config", "fox-multihead.toml", "--set", "train.shards=4", "--threads", "1", "--json"];

/// Runs `train` as `n` processes.
fn train(place: &Place, n: usize, args: &[&str]) -> Said {
    Said::of(&mpirun(place, &[&["-n", &n.to_string(), TRAIN], args].concat()).output().expect("mpirun runs"))
}

/// Checks how `mpirun` with `args`, which write nothing, ends. Occasionally Open MPI 4 crashes in its server after all
/// processes have ended and loses their output; then it runs again.
#[track_caller]
fn refuses(place: &Place, args: &[&str], code: i32, wanted: &[&str]) {
    let run = || Said::of(&mpirun(place, args).output().expect("mpirun runs"));
    let has_crashed = |said: &Said| said.code == 139 && said.stderr.contains("PMIx_server_finalize");
    let mut said = run();
    for _ in 0..3 {
        if has_crashed(&said) {
            eprintln!("mpirun crashed in its own server:\n{}", said.stderr);
            said = run();
        }
    }
    said.fails(code, wanted);
}

fn start(place: &Place, n: usize, args: &[&str]) -> Child {
    let mut command = mpirun(place, &[&["-n", &n.to_string(), TRAIN], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mpirun starts")
}

/// The ids of the processes that `mpirun` has started, once there are `n`.
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
fn the_fox_is_bit_identical_on_any_number_of_processes() {
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
    // One process reads what several wrote, and vice versa.
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
fn a_delayed_process_delays_the_others() {
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
    assert_eq!(place.read("run/metrics.jsonl"), before, "it continued without the delayed process");
    kill("CONT", held);
    assert_eq!(digest(&Place::wait(child)), whole);
}

#[test]
#[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
fn incompatible_processes_are_refused() {
    let place = Place::new();
    let one = ["-n", "1", TRAIN, "--config", "small.toml", "--set"];
    let args = [&one[..], &["optimizer.lr=1e-3", ":"], &one[..], &["optimizer.lr=2e-3"]].concat();
    refuses(
        &place,
        &args,
        2,
        &["process 1 of 2: was started differently from process 0", "optimizer.lr: 0.001 → 0.002"],
    );
    assert!(!place.path("runs").exists());
    let small = ["--config", "small.toml"];
    refuses(
        &place,
        &[&["-n", "10", TRAIN], &small[..]].concat(),
        2,
        &["10 processes are too many", "has 9 parts"],
    );
    refuses(&place, &["-n", "2", TRAIN, "--list"], 2, &["run in one process"]);
    refuses(&place, &["-n", "2", TRAIN, "--config", "none.toml"], 2, &["none.toml"]);
    // A failure of one process ends all.
    let args = ["-n", "1", TRAIN, "--config", "small.toml", ":", "-n", "1", TRAIN, "--config", "none.toml"];
    refuses(&place, &args, 2, &["process 1 of 2: ", "none.toml"]);
    assert!(!place.path("runs").exists());
    // Two runs in one folder.
    let args = ["--config", "small.toml", "--set", "train.steps=100000", "--threads", "1"];
    let child = start(&place, 2, &args);
    wait_for(|| place.path("runs/small/checkpoints/latest").exists());
    let second = [&["-n", "2", TRAIN], &args[..], &["--resume"]].concat();
    refuses(&place, &second, 1, &["is in use by process"]);
    ranks(&child, 2).iter().for_each(|id| kill("KILL", *id));
    Place::wait(child);
}

#[test]
#[ignore = "needs mpirun, and the programs built with --features vulpes-cli/mpi"]
fn bench_reports_the_cost_of_sharing() {
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
    let of =
        |number: usize, key: &str| report["processes"][0]["numbers"][number]["shared"][key].as_f64().unwrap();
    let near =
        |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 0.1, "{found}, wanted {wanted}");
    let whole = of(0, "optimizer_mib");
    assert_eq!(of(0, "sent_mib"), 0.0);
    near(of(1, "optimizer_mib"), whole / 2.0);
    near(of(2, "optimizer_mib"), whole / 4.0);
    // Two moment estimates are twice the parameters; of these and of their gradients (N - 1)/N are sent.
    near(of(1, "sent_mib"), whole / 2.0);
    near(of(2, "sent_mib"), whole * 0.75);
}

/// Kills a process of a run repeatedly, and resumes with another number of processes.
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
        // It may have just finished.
        let _ =
            Command::new("kill").args(["-KILL", &ids[random.below(n as u64) as usize].to_string()]).output();
        let said = Place::wait(child);
        slowest = slowest.max(killed.elapsed());
        if said.code == 0 {
            assert_eq!(digest(&said), whole, "after {done} kills");
            finished += 1;
            continue;
        }
        done += 1;
        told += usize::from(said.stderr.contains("ended unexpectedly"));
        if place.path(&format!("{name}/checkpoints/latest")).exists() {
            place.train(&["--check", &name]).succeeds();
        }
        // The processes are gone: the folder isn't locked.
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
