//! Times tokenizing, with Python's tokenizers for comparison, and how long a step waits for its rows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vulpes_data::{
    Batches, Cursor, DataKind, Dataset, DocumentConfig, ObjectiveKind, OpenOptions, Rank, RowKind,
    TokenizerConfig, TokenizerKind,
};
use vulpes_runs::{Plan, PlanOptions, RunConfig, Session};

use crate::called::again;
use crate::ending::say;

const PEER: &str = include_str!("../../peers/tokenizers_encode.py");

/// Warm-up steps, and the number of batches timed.
const WARM_UP: usize = 10;
const N_BATCHES: u32 = 1000;

/// How a corpus is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataBench<'a> {
    /// The config whose `[data]` names the corpus, and whose model takes the steps.
    pub(crate) config: &'a str,
    /// Threads per worker.
    pub(crate) threads: usize,
    /// A Python with the tokenizers package.
    pub(crate) python: Option<&'a str>,
    /// How many times each worker tokenizes the corpus.
    pub(crate) rounds: usize,
    /// Training steps whose waiting is measured; by default as many as take about three seconds.
    pub(crate) steps: Option<usize>,
}

/// One pass over the corpus, by one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pass {
    name: String,
    seconds: f64,
    tokens: u64,
    peak_rss_mib: f64,
}

/// One worker's passes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tokenizing {
    /// The worker's name.
    pub(crate) name: String,
    /// Megabytes (10^6 bytes) per second, the median over all rounds.
    pub(crate) mb_per_s: f64,
    /// Seconds of each round, in order.
    pub(crate) rounds_s: Vec<f64>,
    /// The peak memory of a pass.
    pub(crate) peak_rss_mib: f64,
}

/// The measurements of one corpus.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DataReport {
    /// The config's name.
    pub(crate) config: String,
    /// The corpus in megabytes (of 10^6 bytes).
    pub(crate) megabytes: f64,
    /// Its tokens.
    pub(crate) tokens: u64,
    /// Vulpes, and the peer if there is one.
    pub(crate) workers: Vec<Tokenizing>,
    /// Our rate divided by the peer's per round: smallest, median, largest. Above 1 means faster.
    pub(crate) ratio: Option<[f64; 3]>,
    /// Seconds of a second start until the corpus is ready from the cache.
    pub(crate) next_start_s: f64,
    /// Microseconds to make one batch.
    pub(crate) batch_us: f64,
    /// Milliseconds of a training step, waiting included.
    pub(crate) step_ms: f64,
    /// Milliseconds of it spent waiting for rows.
    pub(crate) data_wait_ms: f64,
    /// The fraction of the step spent waiting.
    pub(crate) data_wait_share: f64,
}

/// Tokenizes the corpus once per round with each worker in turn, every pass in a separate process with an empty cache;
/// then opens it from the cache and trains on it for a while.
///
/// # Errors
/// Returns an error if the config or its corpus is wrong, a worker fails, or its token count differs from ours.
pub(crate) fn bench_data(bench: &DataBench<'_>) -> Result<DataReport> {
    let folder = tempfile::tempdir().context("no temporary folder for the cache")?;
    // The first opening trains the tokenizer if the config has none, and fills the cache.
    let plan = open(bench, folder.path())?;
    let tokenizer = plan.dataset.tokenizer().context("this config has no tokenizer; --data times one")?;
    let path = folder.path().join("tokenizer.json");
    tokenizer.save(&path)?;
    let job = job(&plan, &path)?;
    let mut passes: [Vec<Pass>; 2] = Default::default();
    say(&format!("{}: {} rounds on {} threads", bench.config, bench.rounds, bench.threads));
    for _ in 0..bench.rounds {
        let mut own = again("bench").context("the path of this program is unknown")?;
        own.args(["--data", "--worker", "--config", bench.config, "--tokenizer"]).arg(&path);
        passes[0].push(pass(&mut own, bench.threads)?);
        if let Some(python) = bench.python {
            let mut peer = Command::new(python);
            peer.args(["-c", PEER, &job.to_string()]);
            passes[1].push(pass(&mut peer, bench.threads)?);
        }
    }
    if let Some(other) = passes.iter().flatten().find(|other| other.tokens != passes[0][0].tokens) {
        bail!("{} counts {} tokens, but Vulpes {}", other.name, other.tokens, passes[0][0].tokens);
    }
    let megabytes = megabytes(&plan)?;
    drop(plan);
    let start = Instant::now();
    let plan = open(bench, folder.path())?;
    let next_start_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let (mut cursor, rows) = (Cursor::default(), plan.config.train.batch_rows);
    for _ in 0..N_BATCHES {
        plan.dataset.batch(cursor, rows)?;
        cursor = plan.dataset.advance(cursor, rows as u64);
    }
    let batch_us = start.elapsed().as_secs_f64() * 1e6 / f64::from(N_BATCHES);
    let (step_ms, data_wait_ms) = waits(&plan, bench.steps)?;
    let ratio = (!passes[1].is_empty()).then(|| {
        let mut ratios: Vec<f64> =
            passes[0].iter().zip(&passes[1]).map(|(own, peer)| peer.seconds / own.seconds).collect();
        ratios.sort_by(f64::total_cmp);
        [ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]]
    });
    Ok(DataReport {
        config: Path::new(bench.config)
            .file_stem()
            .map_or(bench.config.into(), |stem| stem.to_string_lossy().into()),
        megabytes,
        tokens: passes[0][0].tokens,
        ratio,
        workers: passes.iter().filter(|own| !own.is_empty()).map(|own| tokenizing(own, megabytes)).collect(),
        next_start_s,
        batch_us,
        step_ms,
        data_wait_ms,
        data_wait_share: data_wait_ms / step_ms,
    })
}

/// The worker: tokenizes the corpus of `config` with a `tokenizer.json` into an empty cache, and returns the time.
///
/// # Errors
/// Returns an error if the config or its corpus is wrong.
pub(crate) fn tokenize_once(config: &str, tokenizer: &Path) -> Result<serde_json::Value> {
    let cache = tempfile::tempdir().context("no temporary folder for the cache")?;
    let config = read(config, cache.path(), None)?;
    let mut data = config.data.clone();
    data.validation = vulpes_data::Paths::default();
    data.validation_fraction = None;
    data.tokenizer = TokenizerConfig {
        kind: TokenizerKind::File,
        path: Some(tokenizer.display().to_string()),
        eos: data.tokenizer.eos,
        ..TokenizerConfig::default()
    };
    let model = config.model.resolve(1, vulpes_model::Head::NextToken);
    let options = OpenOptions::new(model.context_len, config.train.seed);
    let start = Instant::now();
    let dataset = Dataset::open(&data, &config.objective, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak_rss_mib = super::machine::peak_rss_mib()?;
    Ok(json!(Pass { name: "Vulpes".into(), seconds, tokens: dataset.n_tokens(), peak_rss_mib }))
}

fn read(config: &str, cache: &Path, threads: Option<usize>) -> Result<RunConfig> {
    let (path, text) = vulpes_runs::find_config(Path::new(config))?;
    // A named cache is used whatever the corpus's size.
    let mut overrides = vec![format!("data.cache={}", json!(cache.display().to_string()))];
    overrides.extend(threads.map(|n| format!("train.threads={n}")));
    Ok(RunConfig::parse(&path.display().to_string(), &text, &overrides)?)
}

fn open(bench: &DataBench<'_>, folder: &Path) -> Result<Plan> {
    let config = read(bench.config, &folder.join("cache"), Some(bench.threads))?;
    let options =
        PlanOptions { device: Some("cpu".into()), run_dir: PathBuf::new(), ..PlanOptions::default() };
    Ok(Plan::new(config, &options, &())?)
}

fn files(plan: &Plan) -> Result<Vec<PathBuf>> {
    Ok(plan.config.data.training_files()?)
}

fn megabytes(plan: &Plan) -> Result<f64> {
    let sizes = files(plan)?.into_iter().map(|path| std::fs::metadata(path).map(|meta| meta.len()));
    Ok(sizes.sum::<std::io::Result<u64>>()? as f64 / 1e6)
}

/// The peer's job: the same files and documents, and how to encode them.
fn job(plan: &Plan, tokenizer: &Path) -> Result<serde_json::Value> {
    let (data, objective) = (&plan.config.data, &plan.config.objective);
    if !matches!(data.kind, DataKind::Text | DataKind::Jsonl | DataKind::Csv) {
        bail!("--data times data.kind = \"text\", \"jsonl\" and \"csv\"");
    }
    let (document, marker) = match &data.document {
        DocumentConfig::File => ("file", None),
        DocumentConfig::Line => ("line", None),
        DocumentConfig::Marker(marker) => ("marker", Some(marker)),
    };
    let own = plan.dataset.tokenizer().context("this config has no tokenizer; --data times one")?;
    if objective.kind() == ObjectiveKind::Contrastive {
        bail!("--data doesn't support objective.kind = \"contrastive\"");
    }
    let classify = objective.kind() == ObjectiveKind::Classify;
    let (frame, eos) = (own.has_frame(), own.eos_id());
    let in_stream = data.row_kind(objective) == RowKind::Windows;
    let next = objective.kind() == ObjectiveKind::NextToken;
    let last = own.encode_framed("", None, None)?.0.last().copied();
    let start = own.start_id().filter(|id| !in_stream || data.separate_documents || Some(*id) != eos);
    let opens = usize::from(next && own.opening().is_empty() && start.is_some());
    let ends = match (frame, data.pair_column.is_some()) {
        (false, true) => 2 * usize::from(eos.is_some()),
        _ => usize::from(eos.is_some() && last != eos && (next || (in_stream && !frame))),
    };
    let ends = opens + ends;
    Ok(json!({
        "tokenizer": tokenizer, "files": files(plan)?, "kind": data.kind, "document": document, "marker": marker,
        "text_column": data.text_column(), "pair_column": data.pair_column, "frame": frame, "n_ends": ends,
        "max_len": classify.then(|| plan.model.context_len - if frame { 0 } else { ends }),
    }))
}

/// Runs a worker for one pass.
fn pass(command: &mut Command, threads: usize) -> Result<Pass> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.env("RAYON_NUM_THREADS", threads.to_string()).stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("can't start `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` failed (see its output above)");
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("unexpected answer from `{program}`"))
}

fn tokenizing(passes: &[Pass], megabytes: f64) -> Tokenizing {
    let rounds_s: Vec<f64> = passes.iter().map(|pass| pass.seconds).collect();
    let mut sorted = rounds_s.clone();
    sorted.sort_by(f64::total_cmp);
    Tokenizing {
        name: passes[0].name.clone(),
        mb_per_s: megabytes / sorted[sorted.len() / 2],
        rounds_s,
        peak_rss_mib: passes.iter().map(|pass| pass.peak_rss_mib).fold(0.0, f64::max),
    }
}

/// Trains as `train` does; returns the milliseconds per step, and those spent waiting for rows.
fn waits(plan: &Plan, steps: Option<usize>) -> Result<(f64, f64)> {
    let mut session = Session::start(plan)?.0;
    let train = &plan.config.train;
    let mut batches =
        Batches::new(plan.dataset.clone(), Cursor::default(), train.batch_rows, Rank::default());
    let mut step = || -> Result<(f64, f64)> {
        let start = Instant::now();
        let micro = (0..train.accumulate).map(|_| batches.next_batch()).collect::<Result<Vec<_>, _>>()?;
        let waited = start.elapsed().as_secs_f64();
        session.training.advance(&micro)?;
        Ok((start.elapsed().as_secs_f64(), waited))
    };
    let mut last = 0.0;
    for _ in 0..WARM_UP {
        last = step()?.0;
    }
    let n = steps.unwrap_or_else(|| (3.0 / last).clamp(10.0, 2000.0) as usize).max(1);
    let (mut took, mut waited) = (0.0, 0.0);
    for _ in 0..n {
        let (one, wait) = step()?;
        (took, waited) = (took + one, waited + wait);
    }
    Ok((took * 1e3 / n as f64, waited * 1e3 / n as f64))
}

/// A Markdown table with a row per worker and corpus, followed by the waiting times of a start and a step.
pub(crate) fn data_table(reports: &[DataReport]) -> String {
    let mut out =
        String::from("| corpus | worker | MB/s | seconds per round | ours ÷ theirs (min–max) | peak MiB |\n");
    out += "|---|---|--:|---|---|--:|\n";
    for report in reports {
        for (number, worker) in report.workers.iter().enumerate() {
            let ratio = match (number, report.ratio) {
                (1, Some([least, median, most])) => format!("{median:.2} ({least:.2}–{most:.2})"),
                _ => format!("{:.1} MB, {} tokens", report.megabytes, report.tokens),
            };
            let rounds: Vec<String> = worker.rounds_s.iter().map(|seconds| format!("{seconds:.2}")).collect();
            out += &format!(
                "| {} | {} | {:.1} | {} | {ratio} | {:.0} |\n",
                report.config,
                worker.name,
                worker.mb_per_s,
                rounds.join(" "),
                worker.peak_rss_mib
            );
        }
    }
    for report in reports {
        out += &format!(
            "{}: the next start takes {:.0} ms; making a batch takes {:.0} µs; a step waits {:.3} of {:.2} ms for \
             it ({:.3} %).\n",
            report.config,
            report.next_start_s * 1e3,
            report.batch_us,
            report.data_wait_ms,
            report.step_ms,
            100.0 * report.data_wait_share
        );
    }
    out
}
