//! Helpers that run the real programs, and the library as the programs do, in temporary folders.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use vulpes_runs::checkpoint::files::{Disk, Files};
use vulpes_runs::{FitOptions, Plan, PlanOptions, RunConfig, Summary, fit};

/// A small run with everything on: dropout, accumulation, clipping, schedule, shuffling over several epochs,
/// evaluation in between, shards.
pub(crate) const SMALL: &str = r#"
[model]
family = "gpt2"
n_layer = 2
n_head = 2
d_model = 16
context_len = 12
dropout = 0.1

[data]
train = "data/fox.txt"
validation = "data/fox.val.txt"
document = "line"
rows = "documents"

[optimizer]
lr = 3e-3
clip = 0.5

[schedule]
kind = "cosine"
warmup_steps = 3
min_lr = 1e-4

[train]
steps = 12
batch_rows = 4
accumulate = 3
shards = 3
eval_every = 6
checkpoint_every = 3
keep_last = 3
threads = 2
"#;

/// The model folders of the repository.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// A small model of a family, trained on the fox corpus; it has no family yet.
pub(crate) const FOX_BPE: &str = r#"
[model]
n_layer = 2
n_head = 4
d_model = 32
context_len = 32
[data]
train = "data/fox.txt"
[data.tokenizer]
kind = "bpe"
vocab_size = 300
[optimizer]
lr = 1e-2
[train]
steps = 40
batch_rows = 8
"#;

/// A folder with `small.toml` in it, in which programs run.
pub(crate) struct Place {
    dir: TempDir,
}

/// A program's output and exit code.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().or_else(|| Some(128 + output.status.signal()?)).expect("an end");
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Checks the exit code, and that standard error contains all of `wanted`.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, wanted: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        for words in wanted {
            assert!(self.stderr.contains(words), "{words:?} is not in\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> &Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("small.toml"), SMALL).expect("a file");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `train` in this folder, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Runs a program in this folder to its end, with nothing on standard input.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Said {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        Said::of(&command.output().expect("it runs"))
    }

    /// Trains a model into `runs/NAME`, with these keys overriding the config.
    pub(crate) fn trained(&self, config: &str, name: &str, keys: &[&str]) -> String {
        self.write("run.toml", config);
        let out = format!("runs/{name}");
        let mut args = vec!["--config", "run.toml", "--out", &out, "--quiet"];
        keys.iter().for_each(|key| args.extend(["--set", key]));
        self.train(&args).succeeds();
        out
    }

    /// Runs `train` to its end.
    pub(crate) fn train(&self, args: &[&str]) -> Said {
        Said::of(&self.command(args).output().expect("train runs"))
    }

    /// Starts `train`.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("train starts")
    }

    /// Waits for a started program.
    pub(crate) fn wait(child: Child) -> Said {
        Said::of(&child.wait_with_output().expect("an end"))
    }
}

/// Waits for a program to succeed; returns its peak memory in kB (Linux).
pub(crate) fn peak_kb(mut child: Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut most_kb = 0;
    while child.try_wait().expect("a child").is_none() {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most_kb = peak.unwrap_or(0).max(most_kb);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(child.wait().expect("an end").success());
    most_kb
}

/// Sends a signal to a process.
pub(crate) fn kill(signal: &str, id: u32) {
    let status = Command::new("kill").args([format!("-{signal}"), id.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

/// A plan for `text` with overrides, its run in `dir`.
pub(crate) fn plan(dir: &Path, text: &str, overrides: &[&str]) -> Plan {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    let config = RunConfig::parse("test", text, &overrides).unwrap_or_else(|faults| panic!("{faults}"));
    let options =
        PlanOptions { device: Some("cpu".to_owned()), run_dir: dir.to_path_buf(), ..PlanOptions::default() };
    Plan::new(config, &options, &()).unwrap_or_else(|error| panic!("{error}"))
}

/// Trains as the program does, up to step `stop_after`.
pub(crate) fn train(plan: &Plan, resume: bool, stop_after: u64) -> vulpes_runs::Result<Summary> {
    train_on(plan, resume, stop_after, &Disk)
}

/// The same with other file operations.
pub(crate) fn train_on(
    plan: &Plan,
    resume: bool,
    stop_after: u64,
    files: &dyn Files,
) -> vulpes_runs::Result<Summary> {
    let stop = |step: u64| (step >= stop_after).then_some(130);
    let options = FitOptions { resume, overwrite: false, explicit: Vec::new(), stop: &stop, files };
    fit(plan, &options, &mut ())
}

/// The lines of a run's metrics without what depends on the clock.
pub(crate) fn timeless_metrics(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).expect("metrics");
    let timeless = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        let object = value.as_object_mut().expect("an object");
        ["step_ms", "data_wait_ms", "tokens_per_s", "elapsed_s"].iter().for_each(|key| {
            object.remove(*key);
        });
        value.to_string()
    };
    text.lines().map(timeless).collect()
}
