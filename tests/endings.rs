//! Runs ended by a second signal, a closed pipe or a full disk: nothing intact is lost, and resume is exact.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Place, Said, kill, timeless_metrics};

const STEPS: &[&str] = &["--config", "small.toml", "--json", "--set", "schedule.total_steps=12"];

/// The result of the uninterrupted run.
fn undisturbed() -> (Place, serde_json::Value) {
    let place = Place::new();
    let digest = place.train(STEPS).succeeds().json()["digest"].clone();
    (place, digest)
}

/// Resumes the run in `out` and compares its result with the uninterrupted one.
fn finishes_the_same(place: &Place, out: &str, settings: &[&str], undisturbed: &(Place, serde_json::Value)) {
    let said = place.train(&[STEPS, &["--resume", "--out", out], settings].concat());
    assert_eq!(said.succeeds().json()["digest"], undisturbed.1);
    assert_eq!(
        timeless_metrics(&place.path(out)),
        timeless_metrics(&undisturbed.0.path("runs/small")),
        "{out}"
    );
    place.train(&["--check", out]).succeeds();
}

#[test]
fn second_signal_exits_at_once_and_damages_nothing() {
    let whole = undisturbed();
    for (first, second, code) in [("INT", "INT", 130), ("TERM", "INT", 130), ("INT", "TERM", 143)] {
        let place = Place::new();
        place.train(&[STEPS, &["--set", "train.steps=6"]].concat()).succeeds();
        // A step that takes much longer than the test.
        let mut child = place.start(&[STEPS, &["--resume", "--set", "train.accumulate=100000"]].concat());
        let mut words = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("resuming after step 6") {
            line.clear();
            assert!(words.read_line(&mut line).expect("text") > 0, "it never began");
        }
        kill(first, child.id());
        std::thread::sleep(Duration::from_millis(200));
        assert!(child.try_wait().expect("a state").is_none(), "the first signal lets the step be finished");
        kill(second, child.id());
        assert_eq!(Place::wait(child).code, code);
        assert!(!place.path("runs/small/checkpoints/step-00000007").exists(), "the step was finished");
        place.train(&["--check", "runs/small"]).succeeds();
        finishes_the_same(&place, "runs/small", &["--set", "train.accumulate=3"], &whole);
    }
}

/// `train` with a closed pipe as standard output or standard error.
fn to_nobody(place: &Place, args: &[&str], which: &str) -> Said {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = place.command(args);
    match which {
        "stdout" => command.stdout(writer),
        _ => command.stderr(writer),
    };
    Said::of(&command.output().expect("train runs"))
}

#[test]
fn closed_pipe_is_no_error() {
    let place = Place::new();
    for which in ["stdout", "stderr"] {
        let out = ["--config", "small.toml", "--out", which];
        let forms: &[&[&str]] = &[
            &[&out[..], &["--dry-run"]].concat(),
            &[&out[..], &["--json"]].concat(),
            &[&out[..], &["--eval"]].concat(),
            &["--check", which],
            &["--verify", which],
            &["--help"],
        ];
        for form in forms {
            let said = to_nobody(&place, form, which);
            assert_eq!(said.code, 0, "{form:?}: {}", said.stderr);
            assert!(!said.stderr.contains("panicked") && !said.stderr.contains("error"), "{}", said.stderr);
        }
        assert!(place.path(which).join("model/model.safetensors").is_file());
    }
    // The exit code still reports the result.
    std::fs::remove_file(place.path("stdout/checkpoints/step-00000012/config.json")).expect("removed");
    assert_eq!(to_nobody(&place, &["--check", "stdout"], "stdout").code, 1);
    assert_eq!(to_nobody(&place, &["--check", "nowhere"], "stderr").code, 2);
}

#[test]
#[cfg(target_os = "linux")]
fn unwritable_stdout_exits_1() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let place = Place::new();
    let output =
        place.command(&["--config", "small.toml", "--json"]).stdout(full).output().expect("train runs");
    Said::of(&output).fails(1, &["cannot write to stdout"]);
    assert!(place.path("runs/small/model/model.safetensors").is_file());
}

/// Runs in a separate mount namespace: the run is on a small file system filled with ballast, which is removed if the
/// run waits for space. Afterwards the run is copied out.
const ON_A_SMALL_DISK: &str = r#"
mkdir disk && mount -t tmpfs -o "$OPTIONS" tmpfs disk || exit 99
mkdir disk/ballast
i=0; while [ $i -lt "$BALLAST" ]; do head -c 100000 /dev/zero > disk/ballast/$i; i=$((i + 1)); done
"$@" > out.txt 2> err.txt &
run=$!; i=0
while kill -0 $run 2> /dev/null; do
    if grep -q 'waiting for space' err.txt && [ -e disk/ballast ]; then rm -r disk/ballast; fi
    sleep 0.05; i=$((i + 1))
    # It waits for more than it was given.
    if [ $i -gt 2000 ]; then kill -9 $run; fi
done
wait $run; code=$?
if [ -e disk/ballast ]; then echo kept > ballast.txt; fi
cp -r disk/run kept
exit $code
"#;

/// The output of the program on a small disk.
fn on_a_small_disk(place: &Place, options: &str, ballast: u32, args: &[&str]) -> Said {
    for namespace in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut command = Command::new("unshare");
        command.args(namespace).args(["sh", "-c", ON_A_SMALL_DISK, "sh", env!("CARGO_BIN_EXE_train")]);
        command.args(args).current_dir(place.path(".")).stdin(Stdio::null());
        command.env("OPTIONS", options).env("BALLAST", ballast.to_string());
        let Ok(output) = command.output() else { break };
        match output.status.code() {
            Some(code) if place.path("out.txt").exists() => {
                return Said { code, stdout: place.read("out.txt"), stderr: place.read("err.txt") };
            }
            _ => drop(std::fs::remove_dir(place.path("disk"))),
        }
    }
    panic!("no small file system can be mounted here (unshare --mount, mount -t tmpfs)");
}

/// Too little space for the bytes, which is detected before anything is written, and too few inodes, which fails in the
/// middle of a save.
const SMALL_DISKS: &[(&str, u32)] = &[("size=1500k", 8), ("size=64m,nr_inodes=80", 45)];

mod needs_mount {
    use super::*;

    #[test]
    #[ignore = "needs unshare --mount"]
    fn full_disk_ends_the_run_with_checkpoints_intact() {
        let whole = undisturbed();
        for (options, ballast) in SMALL_DISKS {
            let place = Place::new();
            let args = [
                STEPS,
                &["--out", "disk/run", "--set", "train.checkpoint_every=1", "--set", "train.keep_last=20"],
            ]
            .concat();
            let said = on_a_small_disk(&place, options, *ballast, &args);
            said.fails(1, &["free some space and continue with --resume"]);
            assert!(place.path("ballast.txt").exists());
            place.train(&["--check", "kept"]).succeeds();
            finishes_the_same(&place, "kept", &[], &whole);
            assert!(
                place.train(&["--config", "small.toml", "--out", "kept"]).stderr.contains("up to step 12")
            );
        }
    }

    #[test]
    #[ignore = "needs unshare --mount"]
    fn waiting_for_a_full_disk_changes_no_bit() {
        let whole = undisturbed();
        for (options, ballast) in SMALL_DISKS {
            let place = Place::new();
            let args = [
                STEPS,
                &["--out", "disk/run", "--set", "train.checkpoint_every=1", "--set", "train.keep_last=3"],
                &["--set", "train.on_full_disk=wait"],
            ]
            .concat();
            let said = on_a_small_disk(&place, options, *ballast, &args);
            said.fails(0, &["waiting for space (train.on_full_disk = \"wait\")"]);
            assert!(!place.path("ballast.txt").exists(), "it never waited");
            assert_eq!(said.json()["digest"], whole.1);
            assert_eq!(timeless_metrics(&place.path("kept")), timeless_metrics(&whole.0.path("runs/small")));
            place.train(&["--check", "kept"]).succeeds();
        }
    }
}

/// The limit of `ulimit -f` needs no privileges: a file of a save can't grow to its full size.
#[test]
fn file_size_limit_ends_the_run_with_checkpoints_intact() {
    let whole = undisturbed();
    let place = Place::new();
    place.train(&[STEPS, &["--set", "train.steps=6"]].concat()).succeeds();
    let args = [STEPS, &["--resume"]].concat();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 16 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_train")]).args(args);
    let said = Said::of(&command.current_dir(place.path(".")).output().expect("sh runs"));
    said.fails(1, &["File too large"]);
    place.train(&["--check", "runs/small"]).succeeds();
    finishes_the_same(&place, "runs/small", &[], &whole);
}

/// A partial line of metrics, as after a power loss, and a partial event file.
#[test]
fn files_half_written_by_a_crash_are_repaired() {
    let whole = undisturbed();
    let place = Place::new();
    place.train(&[STEPS, &["--set", "train.steps=6"]].concat()).succeeds();
    let metrics = place.path("runs/small/metrics.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(metrics).expect("metrics");
    file.write_all(b"{\"step\":7,\"loss\":1.0}\n{\"step\":8,\"lo\0\0\0").expect("written");
    place.write("runs/small/checkpoints/.tmp-step-00000009/model.safetensors", "half");
    place.write("runs/small/checkpoints/.tmp-latest", "step-000");
    place.write("runs/small/.tmp-config", "half");
    finishes_the_same(&place, "runs/small", &[], &whole);
    assert!(!place.path("runs/small/checkpoints/.tmp-step-00000009").exists());
}
