//! The parts of a score printed to a terminal.

use std::io::Result;

use super::ScoreParts;
use crate::explanation::Explanation;
use crate::terminal::{Cell, Paper, fixed, shown};

/// How many pairs of parts are listed; the others are added up.
const LISTED: usize = 12;

/// Prints the parts of one score: the pairs of sources, largest first, and their sum.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print(parts: &ScoreParts, explanation: &Explanation, paper: &mut Paper) -> Result<()> {
    let [query, key] = [parts.query, parts.key].map(|place| shown(&explanation.pieces[place]));
    let weight = explanation.attentions[parts.layer][parts.head][parts.query][parts.key];
    paper.heading(&format!(
        "Why \"{query}\" looks at \"{key}\" in layer {}, head {}: the score by source",
        parts.layer, parts.head
    ))?;
    paper.note(&format!(
        "The query (position {}) and the key (position {}) are sums of one part per source, and their score \
         {} (weight {weight:.3}) is the sum over all pairs. The scales of the norms are held fixed. --cell \
         QUERY,KEY chooses another cell.",
        parts.query,
        parts.key,
        fixed(parts.score, 4)
    ))?;
    let mut pairs: Vec<(usize, usize)> =
        (0..parts.sources.len()).flat_map(|a| (0..parts.sources.len()).map(move |b| (a, b))).collect();
    let size = |&(a, b): &(usize, usize)| parts.parts[a][b].abs();
    pairs.sort_by(|one, other| size(other).total_cmp(&size(one)));
    let (listed, rest) = pairs.split_at(pairs.len().min(LISTED));
    let most = listed.first().map_or(1.0, size).max(f64::MIN_POSITIVE);
    let n_column = if paper.is_wide() { 4 } else { 3 };
    let line = |query: String, key: String, value: f64, bar: String| -> Vec<Cell> {
        [query, key, fixed(value, 4), format!("{bar:<20}")]
            .into_iter()
            .take(n_column)
            .map(Cell::from)
            .collect()
    };
    let mut rows: Vec<Vec<Cell>> = listed
        .iter()
        .map(|&(a, b)| {
            let bar = "█".repeat((20.0 * size(&(a, b)) / most).round() as usize);
            line(parts.sources[a].to_string(), parts.sources[b].to_string(), parts.parts[a][b], bar)
        })
        .collect();
    if !rest.is_empty() {
        let sum = rest.iter().map(|&(a, b)| parts.parts[a][b]).sum();
        rows.push(line(format!("the other {}", rest.len()), String::new(), sum, String::new()));
    }
    if let Some(bias) = parts.bias {
        rows.push(line("bias of the distance".into(), String::new(), bias, String::new()));
    }
    rows.push(line("sum".into(), String::new(), parts.sum, String::new()));
    paper.table(&["of the query", "of the key", "score", ""][..n_column], &rows)
}
