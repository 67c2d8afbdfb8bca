//! Times steps shared by several processes, and the cost of sharing.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::compare::{Timings, compare};
use super::step::StepBench;
use super::worker::{Request, Shared, Worker};
use crate::called::again;
use crate::ending::say;

/// What is timed.
pub(crate) struct ProcessesBench<'a> {
    /// Each number of processes.
    pub(crate) processes: &'a [usize],
    /// The launcher.
    pub(crate) launcher: &'a str,
    /// Threads of all processes together; each has at least one.
    pub(crate) threads: usize,
    /// Steps per round.
    pub(crate) steps: Option<usize>,
    /// Rounds.
    pub(crate) rounds: usize,
    /// The dtype of the steps.
    pub(crate) dtype: Option<&'a str>,
}

/// The results of one config.
#[derive(Serialize)]
pub(crate) struct ProcessesReport {
    config: String,
    shards: usize,
    /// One per number of processes.
    numbers: Vec<OfNumber>,
}

/// The results of one number of processes.
#[derive(Serialize)]
struct OfNumber {
    processes: usize,
    threads_each: usize,
    #[serde(flatten)]
    timings: Timings,
    /// The first number's time divided by this one's per round: smallest, median, largest.
    rate: [f64; 3],
    /// The cost of sharing, of the first process.
    shared: Shared,
}

/// Times the steps of a config with each number of processes, one after another in each round.
///
/// # Errors
/// Returns an error if the launcher doesn't exist, the program was built without MPI, or a step fails.
pub(crate) fn bench_processes(config: &str, bench: &ProcessesBench<'_>) -> Result<ProcessesReport> {
    let most = bench.processes.iter().copied().max().unwrap_or(1).max(1);
    let sizes = StepBench::sizes(config, bench.dtype)?;
    // All do the same step: cut into as many parts as the largest number of processes needs.
    let shards = sizes.n_leaves().max(most);
    let mut workers = Vec::new();
    for &n in bench.processes {
        workers.push(Worker::start(&mut command(config, n.max(1), shards, bench)?, "")?);
    }
    let steps = match bench.steps {
        Some(steps) => steps.max(1),
        None => {
            let (ms, _) = workers[0].ask(Request::Step(3))?;
            (1000.0 / ms[ms.len() - 1]).clamp(1.0, 2000.0) as usize
        }
    };
    say(&format!("{config}: {} rounds of {steps} steps on {} threads", bench.rounds, bench.threads));
    let timings = compare(&mut workers, Request::Step(steps), bench.rounds.max(1), &mut || ())?;
    let first = timings.first().map(|first| first.rounds_ms.clone()).unwrap_or_default();
    let of_each = bench.processes.iter().zip(timings).zip(&workers);
    let numbers = of_each.map(|((&processes, timings), worker)| {
        let mut rates: Vec<f64> = first.iter().zip(&timings.rounds_ms).map(|(one, own)| one / own).collect();
        rates.sort_by(f64::total_cmp);
        let at = |place: usize| rates.get(place).copied().unwrap_or(f64::NAN);
        OfNumber {
            processes,
            threads_each: threads_each(processes, bench.threads),
            rate: [at(0), at(rates.len() / 2), at(rates.len().saturating_sub(1))],
            shared: worker.shared().unwrap_or_default(),
            timings,
        }
    });
    Ok(ProcessesReport { config: config.to_owned(), shards, numbers: numbers.collect() })
}

fn threads_each(processes: usize, threads: usize) -> usize {
    (threads / processes.max(1)).max(1)
}

/// The command of a worker of `n` processes.
fn command(config: &str, n: usize, shards: usize, bench: &ProcessesBench<'_>) -> Result<Command> {
    let ours = again("bench").context("the path of this program is unknown")?;
    let mut command = match n {
        1 => ours,
        n => {
            let mut words = bench.launcher.split_whitespace();
            let mut command = Command::new(words.next().context("--launcher is empty")?);
            command.args(words).args(["-n", &n.to_string()]).arg(ours.get_program()).args(ours.get_args());
            command
        }
    };
    let threads = threads_each(n, bench.threads).to_string();
    command.args(["--worker", "--config", config, "--threads", &threads, "--shards", &shards.to_string()]);
    command.args(bench.dtype.iter().flat_map(|dtype| ["--dtype", dtype]));
    Ok(command)
}

/// The report as a table.
pub(crate) fn processes_table(report: &ProcessesReport) -> String {
    let mut text = format!("{}, {} shards\n\n", report.config, report.shards);
    text.push_str(
        "| processes × threads | median ms | rate relative to the first (min–max) | sent, MiB | messages | in exchanges, ms | optimizer, MiB | peak, MiB |\n\
         |---|--:|---|--:|--:|--:|--:|--:|\n",
    );
    for OfNumber { processes, threads_each, timings, rate: [least, median, most], shared } in &report.numbers
    {
        let Shared { sent_mib, messages, exchange_ms, optimizer_mib } = shared;
        let _ = writeln!(
            text,
            "| {processes} × {threads_each} | {:.2} | {median:.3} ({least:.3}–{most:.3}) | {sent_mib:.2} | {messages:.0} | \
             {exchange_ms:.2} | {optimizer_mib:.1} | {:.0} |",
            timings.median_ms, timings.peak_rss_mib
        );
    }
    text
}
