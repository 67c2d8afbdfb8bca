//! The names of heads printed to a terminal.

use std::io::Result;

use super::NamedHead;
use crate::terminal::{Cell, Paper};

/// Prints what each of the heads does, with its scores.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print<'a>(heads: impl Iterator<Item = &'a NamedHead>, paper: &mut Paper) -> Result<()> {
    let rows: Vec<Vec<Cell>> = heads
        .map(|named| {
            let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.2}"));
            let numbers = named.habits.numbers().map(|(_, share)| number(share));
            let name = named.name.map_or("-".to_owned(), |name| name.to_string());
            let first = [format!("{}.{}", named.layer, named.head), name];
            first.into_iter().chain(numbers).map(Cell::from).collect()
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    paper.heading("What each head does, measured on repeated random tokens")?;
    paper.note(
        "Mean weight on the previous token, the first token, the same token elsewhere, and what came after it before \
         (induction): half or more gives the name. Else, from 0.9 on: spread out (entropy, of 1), position only (what two \
         texts' rows have in common).",
    )?;
    paper.table(&["head", "name", "previous", "first", "same", "induction", "position", "spread"], &rows)
}
