//! The comparison as a table for people and as JSON for programs.

use std::fmt::Write;

use super::compare::Comparison;
use super::machine::{MatrixPeak, MemoryPeak, processor};

/// A Markdown table with a row per worker and config; ratios are ours divided by the worker's: below 1 means faster.
pub(crate) fn table(comparisons: &[Comparison], peak: &MatrixPeak) -> String {
    let best = format!(
        "{}; peak float32 matrix product: {:.0} GFLOP/s on {} threads.",
        processor(),
        peak.gflops,
        peak.threads
    );
    format!("{}\n{best}\n", rows(comparisons))
}

/// The same for generation: milliseconds are per token, the peak is the memory bandwidth.
pub(crate) fn generation_table(comparisons: &[Comparison], peak: &MemoryPeak) -> String {
    let best = format!(
        "{}; peak memory bandwidth: {:.1} GB/s on {} threads.",
        processor(),
        peak.gb_per_s,
        peak.threads
    );
    format!("{}\n{best}\n", rows(comparisons))
}

fn rows(comparisons: &[Comparison]) -> String {
    let mut out =
        String::from("| config | worker | median ms | best ms | ratio to it (min–max) | peak MiB |\n");
    out += "|---|---|--:|--:|---|--:|\n";
    for comparison in comparisons {
        for (i, worker) in comparison.workers.iter().enumerate() {
            let ratio = match i.checked_sub(1).and_then(|i| comparison.ratios.get(i)) {
                Some([least, median, most]) => format!("{median:.3} ({least:.3}–{most:.3})"),
                None => format!(
                    "{:.0} tokens/s, {:.0} % of peak",
                    comparison.tokens_per_s,
                    100.0 * comparison.peak_share
                ),
            };
            let _ = writeln!(
                out,
                "| {} | {} | {:.3} | {:.3} | {ratio} | {:.0} |",
                comparison.config, worker.name, worker.median_ms, worker.best_ms, worker.peak_rss_mib
            );
        }
    }
    out
}

/// Everything measured, as one JSON document.
pub(crate) fn json(comparisons: &[Comparison], peak: &MatrixPeak) -> serde_json::Value {
    serde_json::json!({ "processor": processor(), "matrix_peak": peak, "comparisons": comparisons })
}

/// Everything measured of generation, as one JSON document.
pub(crate) fn generation_json(comparisons: &[Comparison], peak: &MemoryPeak) -> serde_json::Value {
    serde_json::json!({ "processor": processor(), "memory_peak": peak, "comparisons": comparisons })
}
