//! Worker processes that run steps on request: Vulpes, Vulpes on plain operations, or a peer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use vulpes_collective::Processes;

/// A request to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Time this many training steps.
    Step(usize),
    /// Time generating this many tokens, one at a time, greedily, with a KV cache.
    Generate(usize),
}

/// A worker's answer.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Milliseconds of each step.
    ms: Vec<f64>,
    /// The peak memory of the process in MiB.
    peak_rss_mib: f64,
    /// The cost of sharing of the first process, if several shared the steps.
    #[serde(default)]
    shared: Option<Shared>,
}

/// The cost of sharing a step for one process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// MiB sent per step.
    pub(crate) sent_mib: f64,
    /// Exchanges per step.
    pub(crate) messages: f64,
    /// Milliseconds per step in exchanges: sending, receiving, and waiting for the others.
    pub(crate) exchange_ms: f64,
    /// MiB of optimizer state that it keeps.
    pub(crate) optimizer_mib: f64,
}

/// A worker's first message.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    name: String,
}

/// A worker process, waiting for requests on its standard input.
pub(crate) struct Worker {
    name: String,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    shared: Option<Shared>,
}

impl Worker {
    /// Starts `command` and waits for its name, to which `suffix` is added.
    ///
    /// # Errors
    /// Returns an error if the program can't be started, or ends before its first message.
    pub(crate) fn start(command: &mut Command, suffix: &str) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start `{program}`"))?;
        let requests = child.stdin.take().context("the worker has no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("the worker has no standard output")?);
        let mut worker = Self { name: program, child, requests, answers, shared: None };
        let hello: Hello = serde_json::from_str(&worker.line()?)?;
        worker.name = format!("{}{suffix}", hello.name);
        Ok(worker)
    }

    /// The worker's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends `request`; returns the milliseconds of each step, and the process's peak memory in MiB.
    ///
    /// # Errors
    /// Returns an error if the worker ends or gives an unexpected answer.
    pub(crate) fn ask(&mut self, request: Request) -> Result<(Vec<f64>, f64)> {
        let line = match request {
            Request::Step(n) => format!("step {n}"),
            Request::Generate(n) => format!("generate {n}"),
        };
        writeln!(self.requests, "{line}").with_context(|| format!("{} has ended", self.name))?;
        self.requests.flush()?;
        let answer: Answer = serde_json::from_str(&self.line()?)?;
        self.shared = answer.shared;
        Ok((answer.ms, answer.peak_rss_mib))
    }

    /// The cost of sharing the last requested steps, if several processes did.
    pub(crate) fn shared(&self) -> Option<Shared> {
        self.shared
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended before it answered (see its output above)", self.name);
        }
        Ok(line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker ends when its standard input closes; one that doesn't is killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers requests on standard input until it closes: the other side of [`Worker`]. With several processes, the first
/// one does and makes the others do the same.
///
/// `step` runs one training step; `generate` generates the given number of tokens and returns the milliseconds of each;
/// `optimizer_mib` is the size of the optimizer state.
///
/// # Errors
/// Returns an error if a step fails, or a request is unknown.
pub(crate) fn serve<W>(
    name: &str,
    worker: &mut W,
    step: impl Fn(&mut W) -> Result<()>,
    generate: impl Fn(&mut W, usize) -> Result<Vec<f64>>,
    (processes, optimizer_mib): (&Processes, f64),
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut say = |value: serde_json::Value| -> Result<()> {
        if processes.is_first() {
            writeln!(out, "{value}")?;
        }
        Ok(out.flush()?)
    };
    say(serde_json::json!({ "name": name }))?;
    let mut lines = std::io::stdin().lock().lines();
    loop {
        // An empty read is the end of the requests.
        let line =
            if processes.is_first() { lines.next().transpose()?.unwrap_or_default() } else { String::new() };
        let line = String::from_utf8(processes.from_first(line.as_bytes())?)?;
        if line.is_empty() {
            return Ok(());
        }
        let before = processes.traffic();
        let request = line.split_once(' ').and_then(|(what, n)| Some((what, n.parse::<usize>().ok()?)));
        let ms = match request {
            Some(("step", n)) => {
                let timed = |_| {
                    let start = std::time::Instant::now();
                    step(worker)?;
                    Ok(start.elapsed().as_secs_f64() * 1e3)
                };
                (0..n).map(timed).collect::<Result<_>>()?
            }
            Some(("generate", n)) => generate(worker, n)?,
            _ => bail!("unknown request `{line}`; expected `step N` or `generate N`"),
        };
        let traffic = processes.traffic();
        let n = ms.len().max(1) as f64;
        let shared = Some(Shared {
            sent_mib: (traffic.bytes - before.bytes) as f64 / n / f64::from(1 << 20),
            messages: (traffic.messages - before.messages) as f64 / n,
            exchange_ms: (traffic.time - before.time).as_secs_f64() * 1e3 / n,
            optimizer_mib,
        });
        say(serde_json::to_value(Answer { ms, peak_rss_mib: super::machine::peak_rss_mib()?, shared })?)?;
    }
}
