//! The command line of `bench`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use super::compare::{Comparison, compare};
use super::data::{DataBench, bench_data, data_table, tokenize_once};
use super::machine::{matrix_peak, memory_peak};
use super::processes::{ProcessesBench, bench_processes, processes_table};
use super::report::{generation_json, generation_table, json, table};
use super::step::{How, StepBench};
use super::worker::{Request, Worker, serve};
use crate::called::again;
use crate::ending::{Failure, end, say};

const TORCH: &str = include_str!("../../peers/torch_gpt.py");

/// Times training steps of named configs, and peers beside them in the same run.
///
/// Every worker (Vulpes, the same on candle's plain operations, PyTorch eager and compiled, each in float32 and in
/// bfloat16) is a process of its own.
/// In each round each does its steps, one after the other, so a machine whose speed drifts drifts for all; ratios are
/// taken round by round. Below 1 is ahead of the peer.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Args {
    /// A config to time; again for more
    #[arg(long, value_name = "FILE", required = true)]
    config: Vec<String>,
    /// Steps a round; as many as take about a second where this isn't given
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Time a peer beside it: torch=PYTHON, a Python that has torch (eager and compiled); with --data
    /// tokenizers=PYTHON, one that has tokenizers
    #[arg(long, value_name = "torch=PYTHON")]
    peer: Option<String>,
    /// Time the plain candle operations beside it, too
    #[arg(long)]
    plain: bool,
    /// Time generation instead: tokens one at a time, from a cache
    #[arg(long, conflicts_with = "plain")]
    generate: bool,
    /// Time steps that so many processes share, each number of them in turn; the threads are shared out among them
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', conflicts_with_all = ["plain", "generate", "data", "peer"])]
    processes: Vec<usize>,
    /// What starts several processes
    #[arg(
        long,
        value_name = "COMMAND",
        default_value = "mpirun --oversubscribe --bind-to none",
        requires = "processes"
    )]
    launcher: String,
    /// Time the config's corpus on its way to tokens instead, and what a step waits for its rows
    #[arg(long, conflicts_with_all = ["plain", "generate"])]
    data: bool,
    /// What Vulpes trains in: float32, float64 or bfloat16; the config's where this isn't given
    #[arg(long, value_name = "DTYPE", conflicts_with_all = ["generate", "data"])]
    dtype: Option<String>,
    /// Threads of every worker; all cores where this isn't given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Time the steps on cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu", conflicts_with_all = ["plain", "generate", "data", "peer"])]
    device: String,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    /// Be the worker that is timed
    #[arg(long, hide = true)]
    worker: bool,
    /// The shards of a worker of --processes
    #[arg(long, hide = true)]
    shards: Option<usize>,
    /// The tokenizer.json of a worker of --data
    #[arg(long, hide = true, requires = "data")]
    tokenizer: Option<PathBuf>,
}

/// The command line.
pub(crate) fn command_line() -> clap::Command {
    Args::command()
}

/// Runs the program.
pub(crate) fn main(matches: &ArgMatches) -> ExitCode {
    let args = Args::from_arg_matches(matches).map_err(Failure::usage);
    end(args.and_then(|args| run(&args)).map(|()| 0))
}

fn run(args: &Args) -> Result<(), Failure> {
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if args.worker {
        return Ok(work(args, threads)?);
    }
    let wanted = if args.data { "tokenizers" } else { "torch" };
    let python = match args.peer.as_deref().map(|peer| peer.split_once('=')) {
        None => None,
        Some(Some((name, python))) if name == wanted => Some(python),
        Some(_) => {
            return Err(Failure::usage(anyhow!(
                "--peer takes {wanted}=PYTHON here, as in --peer {wanted}=python3"
            )));
        }
    };
    if args.data {
        return Ok(data(args, threads, python)?);
    }
    if !args.processes.is_empty() {
        return Ok(processes(args, threads)?);
    }
    let mut comparisons = Vec::new();
    if args.generate {
        let peak = memory_peak(threads);
        for config in &args.config {
            comparisons.push(one(args, config, threads, python, peak.gb_per_s)?);
        }
        if args.json {
            println!("{}", generation_json(&comparisons, &peak));
        } else {
            print!("{}", generation_table(&comparisons, &peak));
        }
        return Ok(());
    }
    let peak = matrix_peak(threads, &vulpes_model::device::parse(Some(&args.device))?)?;
    for config in &args.config {
        comparisons.push(one(args, config, threads, python, peak.gflops)?);
    }
    if args.json {
        println!("{}", json(&comparisons, &peak));
    } else {
        print!("{}", table(&comparisons, &peak));
    }
    Ok(())
}

/// All corpora on their way to tokens.
fn data(args: &Args, threads: usize, python: Option<&str>) -> Result<()> {
    let (rounds, steps) = (args.rounds.max(1), args.steps);
    let time = |config: &String| bench_data(&DataBench { config, threads, python, rounds, steps });
    let reports = args.config.iter().map(time).collect::<Result<Vec<_>>>()?;
    if args.json {
        println!("{}", serde_json::json!({ "data": reports }));
    } else {
        print!("{}", data_table(&reports));
    }
    Ok(())
}

/// All configs, by each number of processes.
fn processes(args: &Args, threads: usize) -> Result<()> {
    let Args { processes, launcher, steps, rounds, dtype, .. } = args;
    let bench = ProcessesBench {
        processes,
        launcher,
        threads,
        steps: *steps,
        rounds: *rounds,
        dtype: dtype.as_deref(),
    };
    let reports =
        args.config.iter().map(|config| bench_processes(config, &bench)).collect::<Result<Vec<_>>>()?;
    if args.json {
        println!("{}", serde_json::json!({ "processes": reports }));
    } else {
        reports.iter().for_each(|report| print!("{}", processes_table(report)));
    }
    Ok(())
}

/// All workers at one config.
fn one(args: &Args, config: &str, threads: usize, python: Option<&str>, peak: f64) -> Result<Comparison> {
    let bench = StepBench::sizes(config, args.dtype.as_deref())?;
    let mut workers = vec![ours(args, config, threads, false)?];
    if args.plain {
        workers.push(ours(args, config, threads, true)?);
    }
    if let Some(python) = python {
        // Generation grows its cache token by token, which PyTorch would compile anew each time.
        let ways: &[(&str, &[&str])] = &[
            (" eager", &[]),
            (" compiled", &["--compile"]),
            (" bfloat16 eager", &["--bf16"]),
            (" bfloat16 compiled", &["--bf16", "--compile"]),
        ];
        for (name, arguments) in if args.generate { &ways[..1] } else { ways } {
            let mut command = Command::new(python);
            command.args(["-c", TORCH]).args(bench.torch_arguments(threads)?).args(*arguments);
            workers.push(Worker::start(&mut command, name)?);
        }
    }
    let name = Path::new(config).file_stem().map_or(config.into(), |stem| stem.to_string_lossy());
    if args.generate {
        let n = args.steps.unwrap_or(200).clamp(1, bench.context_len() - 1);
        say(&format!("{config}: {} rounds of {n} tokens on {threads} threads", args.rounds));
        // A machine that others share changes its pace: the memory is measured in each round, too.
        let mut peaks = Vec::new();
        let mut measure = || peaks.push(memory_peak(threads).gb_per_s);
        let request = Request::Generate(n);
        let timings = compare(&mut workers, request, args.rounds.max(1), &mut measure)?;
        let read = bench.bytes_per_token();
        return Ok(Comparison::new(&name, timings, 1, read, peak).of_peaks(read, &peaks));
    }
    let steps = match args.steps {
        Some(steps) => steps.max(1),
        None => {
            let (ms, _) = workers[0].ask(Request::Step(3))?;
            (1000.0 / ms[ms.len() - 1]).clamp(1.0, 2000.0) as usize
        }
    };
    say(&format!("{config}: {} rounds of {steps} steps on {threads} threads", args.rounds));
    let timings = compare(&mut workers, Request::Step(steps), args.rounds.max(1), &mut || ())?;
    Ok(Comparison::new(&name, timings, bench.tokens(), bench.flops(), peak))
}

fn ours(args: &Args, config: &str, threads: usize, plain: bool) -> Result<Worker> {
    let mut command = again("bench").context("where this program lies is unknown")?;
    command.args(["--worker", "--config", config, "--threads", &threads.to_string()]);
    if plain {
        command.arg("--plain");
    } else if args.device != "cpu" {
        command.args(["--device", &args.device]);
    }
    if let Some(dtype) = args.dtype.as_ref().filter(|_| !plain) {
        command.args(["--dtype", dtype]);
    }
    Worker::start(&mut command, "")
}

fn work(args: &Args, threads: usize) -> Result<()> {
    let config = args.config.first().context("--worker needs --config")?;
    if let Some(tokenizer) = &args.tokenizer {
        println!("{}", tokenize_once(config, tokenizer)?);
        return Ok(());
    }
    let processes = vulpes_collective::start(|error| say(&format!("error: {error}")))?;
    let (dtype, device) = (args.dtype.as_deref(), args.device.as_str());
    let how =
        How { dtype, threads: Some(threads), plain: args.plain, device, shards: args.shards, processes };
    let mut bench = StepBench::start(config, &how)?;
    let name = if args.plain { "candle, plain operations" } else { "Vulpes" };
    let shared = (&how.processes, bench.optimizer_mib());
    serve(name, &mut bench, StepBench::step, |bench, n| bench.generate(n, threads), shared)
}
