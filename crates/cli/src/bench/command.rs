//! The command line of `bench`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};

use super::compare::{Comparison, compare};
use super::data::{DataBench, bench_data, data_table, tokenize_once};
use super::finetune::{FinetuneBench, bench_finetune};
use super::generation::{
    GenerationBench, TYPES, bench_generation, generation_rates_json, generation_table as rates_table,
};
use super::machine::{matrix_peak, memory_peak};
use super::processes::{ProcessesBench, bench_processes, processes_table};
use super::report::{generation_json, generation_table, json, table};
use super::step::{How, StepBench};
use super::study::study;
use super::worker::{Request, Worker, serve};
use crate::called::again;
use crate::ending::{Failure, end, say};

const TORCH: &str = include_str!("../../peers/torch_gpt.py");

/// Times training steps of configs, and of other programs in the same session.
///
/// Every worker (Vulpes, Vulpes on candle's plain operations, PyTorch eager and compiled, each in float32 and bfloat16)
/// is a separate process. In each round the workers run one after the other, so a drifting machine speed affects all of
/// them; ratios are computed per round. Below 1 means faster than the peer.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Args {
    /// A config to time; can be repeated
    #[arg(long, value_name = "FILE", required_unless_present = "study")]
    config: Vec<String>,
    /// Train variants of a config instead, each with several seeds, one after the other, and compare their validation
    /// losses; finished runs are skipped
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "steps", "peer", "plain", "generate", "processes", "data",
                                                          "finetune", "dtype"])]
    study: Option<PathBuf>,
    /// Steps per round [default: as many as take about a second]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Also time a peer: torch=PYTHON, a Python with torch (eager and compiled); with --generate also llama=PATH, a
    /// llama-bench; with --data tokenizers=PYTHON, a Python with tokenizers
    #[arg(long, value_name = "torch=PYTHON")]
    peer: Option<String>,
    /// Also time the plain candle operations
    #[arg(long)]
    plain: bool,
    /// Time generation instead: one token at a time, with a KV cache; with --dtype or --peer llama=PATH also a prompt
    /// and a batch of eight rows
    #[arg(long, conflicts_with = "plain")]
    generate: bool,
    /// Time steps shared by several processes, for each of these numbers; the threads are divided among them
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', conflicts_with_all = ["plain", "generate", "data", "peer"])]
    processes: Vec<usize>,
    /// The launcher of several processes
    #[arg(
        long,
        value_name = "COMMAND",
        default_value = "mpirun --oversubscribe --bind-to none",
        requires = "processes"
    )]
    launcher: String,
    /// Time tokenizing the config's corpus instead, and how long a step waits for its rows
    #[arg(long, conflicts_with_all = ["plain", "generate"])]
    data: bool,
    /// Time training a low-rank adapter on every projection instead, of a frozen model of the config's sizes; --peer
    /// peft=PYTHON also times PEFT
    #[arg(long, conflicts_with_all = ["plain", "generate", "data", "processes", "device"])]
    finetune: bool,
    /// The model of a worker of --finetune
    #[arg(long, hide = true, requires = "worker")]
    base_model: Option<String>,
    /// Dtype of training: float32, float64 or bfloat16 [default: the config's]. With --generate the dtype of the
    /// weights: f32, bf16, q8_0 or q4_0
    #[arg(long, value_name = "DTYPE", conflicts_with = "data")]
    dtype: Option<String>,
    /// Threads of every worker [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Time the steps on cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "cpu", conflicts_with_all = ["plain", "generate", "data", "peer"])]
    device: String,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    /// Run as a timed worker
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
    end(args.and_then(|args| match &args.study {
        Some(file) => Ok(study(file, args.threads, args.json)?),
        None => run(&args).map(|()| 0),
    }))
}

fn run(args: &Args) -> Result<(), Failure> {
    let threads = args.threads.unwrap_or_else(vulpes_model::n_cores);
    if args.worker {
        return Ok(work(args, threads)?);
    }
    let llama = args.peer.as_deref().and_then(|peer| peer.strip_prefix("llama=")).filter(|_| args.generate);
    let is_torch = args.peer.as_deref().is_some_and(|peer| peer.starts_with("torch="));
    if args.generate && (llama.is_some() || args.dtype.is_some()) {
        if is_torch {
            return Err(Failure::usage(anyhow!("--dtype with --generate works with --peer llama=PATH only")));
        }
        if let Some(dtype) = args.dtype.as_deref().filter(|dtype| !TYPES.contains(dtype)) {
            let known = TYPES.join(", ");
            return Err(Failure::usage(anyhow!("--dtype {dtype}: generation supports {known}")));
        }
        return Ok(rates(args, threads, llama.map(Path::new))?);
    }
    let wanted = match (args.data, args.finetune) {
        (true, _) => "tokenizers",
        (false, true) => "peft",
        (false, false) => "torch",
    };
    let python = match args.peer.as_deref().map(|peer| peer.split_once('=')) {
        None => None,
        Some(Some((name, python))) if name == wanted => Some(python),
        Some(_) => {
            return Err(Failure::usage(anyhow!(
                "--peer expects {wanted}=PYTHON here, for example --peer {wanted}=python3"
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
        comparisons.push(match args.finetune {
            true => bench_finetune(&FinetuneBench {
                config,
                threads,
                python,
                rounds: args.rounds.max(1),
                steps: args.steps.unwrap_or(1).max(1),
                peak: peak.gflops,
            })?,
            false => one(args, config, threads, python, peak.gflops)?,
        });
    }
    if args.json {
        println!("{}", json(&comparisons, &peak));
    } else {
        print!("{}", table(&comparisons, &peak));
    }
    Ok(())
}

/// Tokens per second of all configs in one dtype.
fn rates(args: &Args, threads: usize, llama: Option<&Path>) -> Result<()> {
    let dtype = args.dtype.as_deref().unwrap_or("f32");
    let bench = GenerationBench { dtype, threads, rounds: args.rounds, n: args.steps, llama };
    let reports: Vec<_> =
        args.config.iter().map(|config| bench_generation(config, &bench)).collect::<Result<_>>()?;
    if args.json {
        println!("{}", generation_rates_json(&reports));
    } else {
        print!("{}", rates_table(&reports));
    }
    Ok(())
}

/// Times tokenizing of all corpora.
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

/// Times all configs by each number of processes.
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

/// Times all workers with one config.
fn one(args: &Args, config: &str, threads: usize, python: Option<&str>, peak: f64) -> Result<Comparison> {
    let bench = StepBench::sizes(config, args.dtype.as_deref())?;
    let mut workers = vec![ours(args, config, threads, false)?];
    if args.plain {
        workers.push(ours(args, config, threads, true)?);
    }
    if let Some(python) = python {
        // Generation grows its cache token by token, which PyTorch would recompile each time.
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
        // A shared machine changes its pace: the memory bandwidth is measured in each round, too.
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
    let mut command = again("bench").context("the path of this program is unknown")?;
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
    let finetune = args.base_model.as_deref();
    let how = How {
        dtype,
        threads: Some(threads),
        plain: args.plain,
        device,
        shards: args.shards,
        processes,
        finetune,
    };
    let mut bench = StepBench::start(config, &how)?;
    let name = if args.plain { "candle, plain operations" } else { "Vulpes" };
    let shared = (&how.processes, bench.optimizer_mib());
    serve(name, &mut bench, StepBench::step, |bench, n| bench.generate(n, threads), shared)
}
