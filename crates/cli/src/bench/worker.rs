//! A process that runs steps on request: Vulpes itself, Vulpes on its plain operations, or a peer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use vulpes_collective::Processes;

/// What a worker is asked to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// That many training steps.
    Step(usize),
    /// That many tokens, one at a time, greedily, from a cache.
    Generate(usize),
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Milliseconds of each step.
    ms: Vec<f64>,
    /// The most memory that the process has held, in MiB.
    peak_rss_mib: f64,
    /// Where several processes shared the steps: what the first one sent.
    #[serde(default)]
    shared: Option<Shared>,
}

/// What sharing a step takes of one process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// MiB that it sends a step.
    pub(crate) sent_mib: f64,
    /// Exchanges a step.
    pub(crate) messages: f64,
    /// Milliseconds a step in exchanges: sending, receiving, and waiting for the others.
    pub(crate) exchange_ms: f64,
    /// MiB of the optimizer's state that it keeps.
    pub(crate) optimizer_mib: f64,
}

/// How a worker introduces itself.
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
    /// Starts `command` and waits until it says its name, to which `suffix` is added.
    ///
    /// # Errors
    /// When the program can't be started, or ends before it has said anything.
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

    /// What the worker calls itself.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Has `request` done; milliseconds of each step, and the process's peak memory in MiB.
    ///
    /// # Errors
    /// When the worker ends or answers something else.
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

    /// What sharing the steps took that were last asked for, where several processes did.
    pub(crate) fn shared(&self) -> Option<Shared> {
        self.shared
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended before it answered (what it said on stderr stands above)", self.name);
        }
        Ok(line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A worker ends when its standard input closes; one that doesn't is ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers requests on standard input until it closes: the other side of [`Worker`]. Of several processes the first one
/// does, and has the others do the same.
///
/// `step` runs one training step; `generate` makes that many tokens and says how many milliseconds each took;
/// `optimizer_mib` is what is kept of the optimizer's state.
///
/// # Errors
/// When a step fails, or a request is not understood.
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
        // An empty line is none: the requests have come to their end.
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
            _ => bail!("`{line}` is no request; `step N` and `generate N` are"),
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
