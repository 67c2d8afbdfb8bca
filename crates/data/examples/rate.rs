//! How fast a text becomes token shards, beside `encode_batch` of Python's tokenizers on the same text.
//!
//! `cargo run --release -p vulpes-data --example rate -- TEXT TOKENIZER [PYTHON]`: TEXT has one document a line,
//! TOKENIZER is a `tokenizer.json`, PYTHON an interpreter that has the tokenizers package. Both sides read the file,
//! encode all lines on all cores, and count the tokens; this side writes its shards to disk besides. One JSON object
//! on stdout.
#![allow(clippy::print_stdout)]

use std::process::Command;
use std::time::Instant;

use vulpes_data::{
    Cursor, DataConfig, Dataset, DocumentConfig, ObjectiveConfig, OpenOptions, Paths, TokenizerConfig,
    TokenizerKind,
};

/// Lines in batches of 100,000, so that a large file fits; blank lines are no documents.
const PEER: &str = "
import itertools, json, sys, time, tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[2])
tokenizer.no_truncation(); tokenizer.no_padding()
start, n = time.perf_counter(), 0
with open(sys.argv[1], encoding='utf-8', newline='\\n') as text:
    lines = (line.rstrip('\\n').removesuffix('\\r') for line in text)
    lines = (line for line in lines if line.strip())
    while batch := list(itertools.islice(lines, 100_000)):
        n += sum(len(e.ids) for e in tokenizer.encode_batch(batch, add_special_tokens=False)) + len(batch)
print(json.dumps({'peer': 'tokenizers ' + tokenizers.__version__, 'tokens': n, 'seconds': time.perf_counter() - start}))
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, tokenizer, rest @ ..] = arguments.as_slice() else {
        return Err("usage: rate TEXT TOKENIZER [PYTHON]".into());
    };
    let cache = tempfile::tempdir()?;
    let data = DataConfig {
        train: Paths(vec![text.clone()]),
        document: DocumentConfig::Line,
        cache: Some(cache.path().display().to_string()),
        tokenizer: TokenizerConfig {
            kind: TokenizerKind::File,
            path: Some(tokenizer.clone()),
            ..TokenizerConfig::default()
        },
        ..DataConfig::default()
    };
    let options = OpenOptions {
        context_len: 64,
        seed: 1,
        vocab_size: None,
        n_token_types: None,
        tokenizer: None,
        labels: &[],
        shuffle: true,
        progress: &(),
    };
    let open = || -> Result<(f64, Dataset), vulpes_data::Error> {
        let start = Instant::now();
        let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options)?;
        Ok((start.elapsed().as_secs_f64(), dataset))
    };
    // What a step of 12 windows of 64 waits for where no thread makes its batch ahead.
    let batch_us = |dataset: &Dataset| -> Result<f64, vulpes_data::Error> {
        let start = Instant::now();
        let mut cursor = Cursor::default();
        for _ in 0..1000 {
            dataset.batch(cursor, 12)?;
            cursor = dataset.advance(cursor, 12);
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    let megabytes = std::fs::metadata(text)?.len() as f64 / 1e6;
    let (seconds, dataset) = open()?;
    let (again, _) = open()?;
    let peer = match rest.first() {
        None => serde_json::Value::Null,
        Some(python) => {
            let output = Command::new(python).args(["-c", PEER, text, tokenizer]).output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let mut peer: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| said)?;
            peer["megabytes_per_s"] = (megabytes / peer["seconds"].as_f64().unwrap_or(f64::NAN)).into();
            peer
        }
    };
    let peak = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim).map(str::to_owned);
    let report = serde_json::json!({
        "megabytes": megabytes, "tokens": dataset.n_tokens(), "batch_us": batch_us(&dataset)?, "seconds": seconds, "megabytes_per_s": megabytes / seconds,
        "second_start_seconds": again, "peak_memory": peak, "peer": peer,
    });
    println!("{report:#}");
    Ok(())
}
