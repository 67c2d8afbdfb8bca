//! What `sample` prints: JSON documents and tables.

use std::io::{IsTerminal, Result, Write};

use serde::Serialize;
use serde_json::{Value, json};
use vulpes_data::Tokenizer;
use vulpes_generate::{Choice, Finish, NextToken, Trace, token_text};

/// A chosen token as JSON tells it.
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

/// The chosen tokens as JSON: what the model gave each, what the chain made of it, and the draw.
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

/// One sample as JSON. An end token and a stop text both are a `stop`; `stopped_by` tells them apart.
pub(super) fn sample(
    text: &str,
    finish: &Finish,
    tokens: Value,
    n_forgotten: usize,
    tokenizer: &Tokenizer,
) -> Value {
    let (reason, by) = match finish {
        Finish::Length => ("length", None),
        Finish::End(id) => ("stop", Some(token_text(tokenizer, *id))),
        Finish::Stop(stop) => ("stop", Some(stop.clone())),
    };
    json!({ "text": text, "finish_reason": reason, "stopped_by": by, "tokens": tokens, "forgotten": n_forgotten })
}

/// The next-token table, greatest first: token, probability, and on a terminal a bar.
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

/// The document of the only prompt, or those of all under `prompts`.
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

/// Control characters made visible, so that a token stays on its line.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

/// The numbers of a vector with spaces between, each in the fewest digits that give it back.
pub(super) fn numbers(vector: &[f32]) -> String {
    vector.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")
}
