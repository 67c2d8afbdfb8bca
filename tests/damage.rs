//! Damaged checkpoints are detected and named, and the previous one is used; disk faults lose no intact one.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use vulpes_random::Key;
use vulpes_runs::checkpoint::{self, files::Files};
use vulpes_runs::{Session, check, verify};

use crate::support::{Place, SMALL, plan, train, train_on};

/// The files below `dir` with their contents.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        found.insert(path.clone(), std::fs::read(&path).expect("a file"));
    }
    found
}

fn restore(dir: &Path, contents: &BTreeMap<PathBuf, Vec<u8>>) {
    std::fs::remove_dir_all(dir).expect("removed");
    std::fs::create_dir(dir).expect("made");
    contents.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).expect("written"));
}

#[test]
fn damaged_tensor_is_named_and_the_previous_checkpoint_used() {
    let place = Place::new();
    place.train(&["--config", "small.toml"]).succeeds();
    let latest = place.path("runs/small/checkpoints/step-00000012/train_state.safetensors");
    let mut bytes = std::fs::read(&latest).expect("a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&latest, bytes).expect("written");
    let said = place.train(&["--check", "runs/small"]);
    assert_eq!(said.code, 1);
    assert!(
        said.stdout.contains("step-00000012: checkpoint") && said.stdout.contains("tensor `v."),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("step-00000009: whole"), "{}", said.stdout);
    let said = place.train(&["--config", "small.toml", "--resume"]);
    said.fails(0, &["is damaged: train_state.safetensors: tensor `v.", "resuming after step 9"]);
    place.train(&["--check", "runs/small"]).succeeds();
}

/// Damages a folder in one way.
fn mutate(dir: &Path, draw: &mut vulpes_random::Stream) -> String {
    let all: Vec<PathBuf> = contents(dir).into_keys().collect();
    let pick = |draw: &mut vulpes_random::Stream| all[draw.below(all.len() as u64) as usize].clone();
    let path = pick(draw);
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut bytes = std::fs::read(&path).expect("a file");
    match draw.below(8) {
        0..4 => {
            let at = draw.below(bytes.len() as u64) as usize;
            let bit = 1 << draw.below(8);
            bytes[at] ^= bit;
            std::fs::write(&path, bytes).expect("written");
            format!("{name}: bit {bit} of byte {at} flipped")
        }
        4 => {
            let at = draw.below(bytes.len() as u64) as usize;
            bytes.truncate(at);
            std::fs::write(&path, bytes).expect("written");
            format!("{name}: cut to {at} bytes")
        }
        5 => {
            let other = pick(draw);
            let theirs = std::fs::read(&other).expect("a file");
            std::fs::write(&path, &theirs).expect("written");
            std::fs::write(&other, &bytes).expect("written");
            if theirs == bytes {
                return "nothing".to_owned();
            }
            format!("{name}: swapped with {}", other.display())
        }
        6 => {
            std::fs::remove_file(&path).expect("removed");
            format!("{name}: deleted")
        }
        _ => {
            // A tensor's name in the header: same length, another letter.
            match bytes
                .windows(5)
                .position(|window| window == b".bloc" || window == b"h.0.a" || window == b"block")
            {
                Some(at) => {
                    bytes[at + 1] = b'z';
                    std::fs::write(&path, bytes).expect("written");
                    format!("{name}: a name changed at byte {at}")
                }
                None => {
                    std::fs::write(&path, []).expect("written");
                    format!("{name}: emptied")
                }
            }
        }
    }
}

fn mutants(n: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let plan = plan(&dir.path().join("run"), SMALL, &["train.steps=3"]);
    train(&plan, false, u64::MAX).expect("a run");
    let folder = plan.run_dir.join("checkpoints/step-00000003");
    let good = contents(&folder);
    let state = checkpoint::verify(&folder).expect("whole").state;
    let digest = state.digest.clone();
    let mut draw = Key::new(7, "mutants").stream();
    let (mut detected, mut harmless) = (0, 0);
    for number in 0..n {
        let what = mutate(&folder, &mut draw);
        match checkpoint::verify(&folder) {
            Err(error) => {
                let words = error.to_string();
                let named = good
                    .keys()
                    .any(|path| words.contains(&*path.file_name().expect("a name").to_string_lossy()));
                assert!(named, "mutant {number} ({what}) is not named: {words}");
                detected += 1;
            }
            Ok(whole) => {
                // Only a file swapped with itself may pass.
                let session = Session::restore(&plan, &whole).expect("harmless");
                assert_eq!(session.training.digest().expect("a digest"), digest, "mutant {number}: {what}");
                assert_eq!(what, "nothing", "mutant {number}");
                harmless += 1;
            }
        }
        restore(&folder, &good);
    }
    eprintln!("{n} mutants: {detected} detected by name, {harmless} harmless");
}

#[test]
fn mutants_are_detected_by_name() {
    mutants(250);
}

#[test]
#[ignore = "long: a minute"]
fn five_thousand_mutants_are_detected_by_name() {
    mutants(5000);
}

/// A disk on which operation number `fails_at` fails, in one of several ways.
struct BadDisk {
    count: AtomicUsize,
    fails_at: usize,
    way: usize,
}

const WAYS: usize = 4;

impl BadDisk {
    fn new(fails_at: usize, way: usize) -> Self {
        Self { count: AtomicUsize::new(0), fails_at, way }
    }

    fn error(&self) -> io::Error {
        let kind = [
            io::ErrorKind::StorageFull,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::Other,
            io::ErrorKind::WriteZero,
        ];
        kind[self.way].into()
    }

    /// Whether this operation fails.
    fn fails(&self) -> bool {
        self.count.fetch_add(1, Ordering::SeqCst) == self.fails_at
    }
}

/// The real disk, for operations that succeed.
struct Real;
impl Files for Real {}

impl Files for BadDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if self.fails() { Err(self.error()) } else { Real.create_dir(path) }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.fails() {
            // A short write.
            Real.write(path, &bytes[..bytes.len() / 2])?;
            return Err(self.error());
        }
        Real.write(path, bytes)
    }

    fn written(&self, path: &Path) -> io::Result<()> {
        if self.fails() {
            let length = std::fs::metadata(path)?.len();
            std::fs::OpenOptions::new().write(true).open(path)?.set_len(length / 2)?;
            return Err(self.error());
        }
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        if self.fails() { Err(self.error()) } else { Real.sync(path) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.fails() { Err(self.error()) } else { Real.rename(from, to) }
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        if self.fails() { Err(self.error()) } else { Real.exchange(one, other) }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if self.fails() { Err(self.error()) } else { Real.remove_dir(path) }
    }
}

/// Fails every operation of a run once, in the given ways; in the quick form only every n-th operation.
fn faults(every: usize, ways: usize) {
    let whole = tempfile::tempdir().expect("a folder");
    let settings = ["train.steps=6", "train.eval_every=3", "train.checkpoint_every=2", "train.keep_last=2"];
    let good = train(&plan(&whole.path().join("run"), SMALL, &settings), false, u64::MAX).expect("a run");
    let (mut at, mut failed) = (0, 0);
    loop {
        for way in 0..ways {
            let dir = tempfile::tempdir().expect("a folder");
            let plan = plan(&dir.path().join("run"), SMALL, &settings);
            let disk = BadDisk::new(at, way);
            let result = train_on(&plan, false, u64::MAX, &disk);
            if disk.count.load(Ordering::SeqCst) <= at {
                assert_eq!(result.expect("nothing failed").digest, good.digest);
                eprintln!("{failed} faults at {at} operations, each reported, each survived");
                return;
            }
            failed += 1;
            let error =
                result.err().unwrap_or_else(|| panic!("the fault at operation {at} was not reported"));
            assert!(!error.to_string().is_empty());
            // Everything named as a checkpoint is intact, or detected as damaged.
            let steps = checkpoint::steps(&plan.run_dir.join("checkpoints"));
            if let Some(newest) = steps.last() {
                let (found, _) =
                    checkpoint::newest(&plan.run_dir.join("checkpoints")).expect("an intact one");
                assert!(found.state.step == *newest, "operation {at}: step {newest} is not intact: {error}");
            }
            let finished =
                train(&plan, true, u64::MAX).unwrap_or_else(|error| panic!("operation {at}: {error}"));
            assert_eq!(finished.digest, good.digest, "operation {at}");
            assert!(check(&plan.run_dir).expect("a run").iter().all(|one| one.fault.is_none()));
        }
        at += every;
    }
}

#[test]
fn disk_faults_are_reported_and_cost_no_intact_checkpoint() {
    faults(7, 1);
}

#[test]
#[ignore = "long: some minutes"]
fn a_fault_at_every_operation_in_every_way_is_reported_and_survived() {
    faults(1, WAYS);
}

#[test]
fn on_full_disk_wait_waits_for_space() {
    let dir = tempfile::tempdir().expect("a folder");
    let good = plan(&dir.path().join("good"), SMALL, &[]);
    let digest = train(&good, false, u64::MAX).expect("a run").digest;
    let waiting = plan(&dir.path().join("waiting"), SMALL, &["train.on_full_disk=wait"]);
    // One write of the first checkpoint finds the disk full, once.
    let disk = BadDisk::new(9, 0);
    assert_eq!(train_on(&waiting, false, u64::MAX, &disk).expect("a run").digest, digest);
    let stopping = plan(&dir.path().join("stopping"), SMALL, &[]);
    let error = train_on(&stopping, false, u64::MAX, &BadDisk::new(9, 0)).expect_err("a full disk");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn finished_run_is_reproduced() {
    let dir = tempfile::tempdir().expect("a folder");
    let plan = plan(&dir.path().join("run"), SMALL, &[]);
    train(&plan, false, u64::MAX).expect("a run");
    let verified = verify(&plan, None, None).expect("a replay");
    assert_eq!((verified.from, verified.to, verified.difference), (6, 12, None));
    assert_eq!(verify(&plan, Some(0), Some(9)).expect("a replay").difference, None);
    // A run with a different record.
    let path = plan.run_dir.join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).expect("metrics");
    let (head, tail) = text.split_once("{\"step\":8,\"loss\":").expect("step 8");
    std::fs::write(&path, format!("{head}{{\"step\":8,\"loss\":1{tail}")).expect("written");
    let difference = verify(&plan, None, None).expect("a replay").difference.expect("a difference");
    assert!(difference.starts_with("step 8: loss is"), "{difference}");
}

#[test]
fn verify_names_the_step_and_tensor_that_differ() {
    let place = Place::new();
    place.train(&["--config", "small.toml"]).succeeds();
    let said = place.train(&["--verify", "runs/small", "--from", "6", "--to", "12"]);
    assert!(said.succeeds().stdout.contains("steps 7 to 12: identical"), "{}", said.stdout);
    place.train(&["--verify", "runs/small", "--from", "5"]).fails(2, &["expected --from 0, 6, 9, 12"]);
    // The same run with another seed for its checkpoint at step 9: intact, but not this run's.
    place.train(&["--config", "small.toml", "--set", "train.seed=2", "--out", "other"]).succeeds();
    std::fs::remove_dir_all(place.path("runs/small/checkpoints/step-00000009")).expect("removed");
    std::fs::rename(
        place.path("other/checkpoints/step-00000009"),
        place.path("runs/small/checkpoints/step-00000009"),
    )
    .expect("renamed");
    let said = place.train(&["--verify", "runs/small", "--from", "6"]);
    assert_eq!(said.code, 1);
    assert!(said.stdout.contains("step 9: tensor `m.blocks.0.attention."), "{}", said.stdout);
}
