//! Times generation in one dtype, with llama.cpp for comparison: one row, a prompt, eight rows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use vulpes_export::{Dtype, Format, Request, export};
use vulpes_model::folder::{Extra, load_decoder, save};
use vulpes_model::{Decoder, Feed, PackedType, Wanted};

use super::machine::processor;
use super::step::{How, StepBench};
use crate::ending::say;

/// The dtypes that generation is timed in.
pub(crate) const TYPES: [&str; 6] = ["f32", "float32", "bf16", "bfloat16", "q8_0", "q4_0"];
/// Rows that are continued together.
const ROWS: usize = 8;
/// Tokens of the prompt, if the context holds them.
const PROMPT: usize = 256;

/// What is timed.
pub(crate) struct GenerationBench<'a> {
    /// The dtype of the weights, as in `sample`.
    pub(crate) dtype: &'a str,
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    /// Tokens per round, if set.
    pub(crate) n: Option<usize>,
    /// A `llama-bench`.
    pub(crate) llama: Option<&'a Path>,
}

/// Tokens per second: of one row, of a prompt, of eight rows in total; `None` if not available.
type Rates = [Option<f64>; 3];

const MEASURES: [&str; 3] = ["one row", "prompt", "eight rows"];

/// The results of a config.
pub(crate) struct Report {
    config: String,
    dtype: String,
    ours: Vec<Rates>,
    theirs: Vec<Rates>,
}

/// Times one config.
///
/// # Errors
/// Returns an error if the config is wrong, its model can't be continued, or llama.cpp fails.
pub(crate) fn bench_generation(config: &str, bench: &GenerationBench<'_>) -> Result<Report> {
    let (to, written) = match bench.dtype {
        "f32" | "float32" => (None, Dtype::F32),
        "bf16" | "bfloat16" => (Some(PackedType::Bf16), Dtype::Bf16),
        "q8_0" => (Some(PackedType::Q8_0), Dtype::Q8_0),
        "q4_0" => (Some(PackedType::Q4_0), Dtype::Q4_0),
        other => bail!("{other}: unsupported dtype for generation"),
    };
    let how = How { threads: Some(bench.threads), device: "cpu", ..How::default() };
    let step = StepBench::start(config, &how)?;
    let model = step.transformer()?;
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("model");
    save(&folder, &model, &Extra::default())?;
    let gguf =
        bench.llama.and_then(|llama| peer_file(llama, &folder, &dir.path().join("model.gguf"), written));
    let context = model.config().context_len;
    let prompt = PROMPT.min(context - 1);
    let n = bench.n.unwrap_or(64).clamp(1, context - 1);
    say(&format!(
        "{config}: {} rounds of {n} tokens and a prompt of {prompt} on {} threads",
        bench.rounds, bench.threads
    ));
    let none = || anyhow!("this config's model has no decoder");
    let mut decoder = load_decoder(&folder, to, bench.threads)?.decoder.ok_or_else(none)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds.max(1) {
        ours.push(our_rates(&mut decoder, n, prompt)?);
        if let (Some(llama), Some(gguf)) = (bench.llama, &gguf) {
            theirs.push(their_rates(llama, gguf, bench.threads, n, prompt)?);
        }
    }
    let name = Path::new(config).file_stem().map_or(config.into(), |stem| stem.to_string_lossy());
    Ok(Report { config: name.into_owned(), dtype: bench.dtype.to_owned(), ours, theirs })
}

/// The GGUF file for llama.cpp; if it can't be made, the reason is reported.
fn peer_file(llama: &Path, folder: &Path, out: &Path, dtype: Dtype) -> Option<PathBuf> {
    if !llama.is_file() {
        say(&format!("llama.cpp is left out: {} does not exist", llama.display()));
        return None;
    }
    let request = Request {
        model: &vulpes_model::folder::Sources::from(folder),
        name: "bench".into(),
        format: Format::Gguf,
        dtype: Some(dtype),
        with_tokenizer: false,
        out,
        stop: &|| false,
    };
    match export(&request) {
        Ok(exported) => Some(exported.path),
        Err(error) => {
            say(&format!("llama.cpp is left out: {error}"));
            None
        }
    }
}

fn greatest(logits: &[f32]) -> u32 {
    (0..logits.len()).fold(0, |a, b| if logits[b] > logits[a] { b } else { a }) as u32
}

fn our_rates(decoder: &mut Decoder<'_>, n: usize, prompt: usize) -> Result<Rates> {
    let n_vocab = decoder.config().vocab_size;
    let ids: Vec<u32> = (0..prompt).map(|i| ((i * 37 + 5) % n_vocab) as u32).collect();
    // Once before timing, as llama-bench does.
    decoder.read_prompt(&mut decoder.empty_row(), &ids)?;
    let mut row = decoder.empty_row();
    let start = Instant::now();
    decoder.read_prompt(&mut row, &ids)?;
    let of_prompt = prompt as f64 / start.elapsed().as_secs_f64();

    let (mut row, mut id) = (decoder.empty_row(), 1 % n_vocab as u32);
    let start = Instant::now();
    for _ in 0..n {
        id = greatest(decoder.step(&mut row, id)?);
    }
    let of_one = n as f64 / start.elapsed().as_secs_f64();

    let mut rows: Vec<_> = (0..ROWS).map(|_| decoder.empty_row()).collect();
    let mut next: Vec<[u32; 1]> = (0..ROWS).map(|row| [(row % n_vocab) as u32]).collect();
    let start = Instant::now();
    for _ in 0..n {
        let feeds = rows.iter_mut().zip(&next).map(|(row, ids)| Feed { row, ids, wanted: Wanted::Last });
        let logits = decoder.read(&mut feeds.collect::<Vec<_>>())?;
        next = logits.chunks_exact(n_vocab).map(|logits| [greatest(logits)]).collect();
    }
    let of_eight = (ROWS * n) as f64 / start.elapsed().as_secs_f64();
    Ok([Some(of_one), Some(of_prompt), Some(of_eight)])
}

/// The rates of llama-bench, and for eight rows of the llama-batched-bench next to it, if there is one.
fn their_rates(llama: &Path, gguf: &Path, threads: usize, n: usize, prompt: usize) -> Result<Rates> {
    let (threads, n, prompt) = (threads.to_string(), n.to_string(), prompt.to_string());
    let told = run(Command::new(llama)
        .args(["-t", &threads, "-n", &n, "-p", &prompt, "-r", "1", "-o", "json", "-m"])
        .arg(gguf))?;
    let told: Value = serde_json::from_str(&told).context("llama-bench's JSON")?;
    let rate = |key: &str| {
        let all = told.as_array().into_iter().flatten();
        all.filter(|test| test[key].as_u64() > Some(0)).find_map(|test| test["avg_ts"].as_f64())
    };
    let batched = llama.with_file_name("llama-batched-bench");
    let of_eight = if batched.is_file() {
        let rows = ROWS.to_string();
        let told = run(Command::new(batched)
            .args(["-t", &threads, "-npp", "1", "-ntg", &n, "-npl", &rows, "--output-format", "jsonl", "-m"])
            .arg(gguf))?;
        let lines = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter_map(|line| line["speed_tg"].as_f64()).next_back()
    } else {
        None
    };
    Ok([rate("n_gen"), rate("n_prompt"), of_eight])
}

fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("can't start `{name}`"))?;
    if !done.status.success() {
        bail!("`{name}` failed ({}): {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// Smallest, median and largest.
fn spread(mut numbers: Vec<f64>) -> Option<[f64; 3]> {
    numbers.sort_by(f64::total_cmp);
    Some([*numbers.first()?, *numbers.get(numbers.len() / 2)?, *numbers.last()?])
}

impl Report {
    /// Our rates, theirs, and the ratio per round of one measure.
    fn of(&self, measure: usize) -> [Option<[f64; 3]>; 3] {
        let all = |rounds: &[Rates]| spread(rounds.iter().filter_map(|round| round[measure]).collect());
        let ratio = |(ours, theirs): (&Rates, &Rates)| Some(ours[measure]? / theirs[measure]?);
        let ratios = spread(self.ours.iter().zip(&self.theirs).filter_map(ratio).collect());
        [all(&self.ours), all(&self.theirs), ratios]
    }
}

/// A Markdown table with a row per config, dtype and measure; a ratio above 1 means faster.
pub(crate) fn generation_table(reports: &[Report]) -> String {
    let mut out = String::from(
        "| config | type | tokens/s of | Vulpes (min–max) | llama.cpp (min–max) | ours ÷ theirs (min–max) |\n\
         |---|---|---|---|---|---|\n",
    );
    let shown = |spread: Option<[f64; 3]>, digits: usize| {
        spread.map_or("–".to_owned(), |[least, middle, most]| {
            format!("{middle:.digits$} ({least:.digits$}–{most:.digits$})")
        })
    };
    for report in reports {
        for (measure, name) in MEASURES.iter().enumerate() {
            let [ours, theirs, ratios] = report.of(measure);
            out += &format!(
                "| {} | {} | {name} | {} | {} | {} |\n",
                report.config,
                report.dtype,
                shown(ours, 0),
                shown(theirs, 0),
                shown(ratios, 2)
            );
        }
    }
    format!("{out}\n{}.\n", processor())
}

/// The same as JSON: smallest, median and largest of each value.
pub(crate) fn generation_rates_json(reports: &[Report]) -> Value {
    let report = |report: &Report| {
        let measures = MEASURES.iter().enumerate().map(|(measure, name)| {
            let [ours, theirs, ratios] = report.of(measure);
            json!({ "of": name, "vulpes": ours, "llama.cpp": theirs, "ratio": ratios })
        });
        json!({ "config": report.config, "dtype": report.dtype, "rates": measures.collect::<Vec<_>>() })
    };
    json!({ "processor": processor(), "generation": reports.iter().map(report).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_computed_per_round() {
        let rate = |one: f64| [Some(one), Some(2.0 * one), None];
        let report = Report {
            config: "a".into(),
            dtype: "q8_0".into(),
            ours: vec![rate(10.0), rate(20.0), rate(30.0)],
            theirs: vec![rate(10.0), rate(10.0), rate(10.0)],
        };
        assert_eq!(report.of(0), [Some([10.0, 20.0, 30.0]), Some([10.0; 3]), Some([1.0, 2.0, 3.0])]);
        let table = generation_table(&[report]);
        assert!(
            table.contains("| a | q8_0 | one row | 20 (10–30) | 10 (10–10) | 2.00 (1.00–3.00) |"),
            "{table}"
        );
        assert!(table.contains("| a | q8_0 | eight rows | – | – | – |"), "{table}");
    }
}
