//! The output of `sample`: JSON documents and tables.

use std::io::{IsTerminal, Result, Write};

use serde::Serialize;
use serde_json::{Value, json};
use vulpes_data::Tokenizer;
use vulpes_generate::{Choice, FinishReason, NextToken, Trace, token_text};

/// A sampled token in JSON.
#[derive(Serialize)]
struct Token<'a> {
    id: u32,
    text: String,
    probability: f64,
    rank: usize,
    drawn_with: f64,
    #[serde(flatten)]
    trace: Option<&'a Trace>,
}

/// The sampled tokens as JSON: the model's probability, the sampler chain's, and the random draw.
pub(super) fn tokens(choices: &[Choice], tokenizer: &Tokenizer) -> Result<Value> {
    let token = |choice: &Choice| {
        serde_json::to_value(Token {
            id: choice.id,
            text: token_text(tokenizer, choice.id),
            probability: choice.probability,
            rank: choice.rank,
            drawn_with: choice.drawn_with,
            trace: choice.trace.as_ref(),
        })
    };
    Ok(choices.iter().map(token).collect::<serde_json::Result<Vec<Value>>>()?.into())
}

/// One sample as JSON. `finish_reason` is `stop` for an end token and for a stop string; `stopped_by` distinguishes
/// them.
pub(super) fn sample(
    text: &str,
    finish_reason: &FinishReason,
    tokens: Value,
    n_truncated: usize,
    tokenizer: &Tokenizer,
) -> Value {
    let (reason, by) = match finish_reason {
        FinishReason::Length => ("length", None),
        FinishReason::End(id) => ("stop", Some(token_text(tokenizer, *id))),
        FinishReason::Stop(stop) => ("stop", Some(stop.clone())),
    };
    json!({ "text": text, "finish_reason": reason, "stopped_by": by, "tokens": tokens, "forgotten": n_truncated })
}

/// The next-token table, largest first: token, probability, and on a terminal a bar.
pub(super) fn table(next: &[NextToken]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let with_bars = out.is_terminal();
    let shown: Vec<String> = next.iter().map(|line| escaped(&line.text)).collect();
    let width = shown.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    for (line, text) in next.iter().zip(shown) {
        let bar =
            if with_bars { "█".repeat((line.probability * 40.0).round() as usize) } else { String::new() };
        let row = format!("{text:<width$}  {:.4}  {bar}", line.probability);
        writeln!(out, "{}", row.trim_end())?;
    }
    out.flush()
}

/// The document of a single prompt, or those of all under `prompts`.
pub(super) fn one_or_many(mut documents: Vec<Value>) -> Value {
    match documents.len() {
        1 => documents.remove(0),
        _ => json!({ "prompts": documents }),
    }
}

/// Prints one JSON document.
pub(super) fn document(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Escapes control characters, so that a token stays on its line.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

/// The elements of a vector separated by spaces, each in the fewest digits that round-trip.
pub(super) fn numbers(vector: &[f32]) -> String {
    vector.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")
}
