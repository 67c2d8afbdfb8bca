//! The training rows that an answer depends on, printed to a terminal.

use std::io::Result;

use serde::Serialize;
use vulpes_generate::NextToken;

use crate::explanation::Explanation;
use crate::terminal::{Cell, Paper, columns as columns_of, fixed, shown};

/// The training rows that an answer depends on, each verified by training without it.
#[derive(Clone, Debug, Serialize)]
pub struct Taught {
    /// The answer, and its probability with all rows.
    pub target: NextToken,
    /// The step after which the model was saved.
    pub step: u64,
    /// How many rows the run had read by then.
    pub n_rows: usize,
    /// How many of them were left out one by one.
    pub n_proved: usize,
    /// The answer's probability after the repeated run.
    pub probability: f64,
    /// The rows with the largest effect by their gradients, largest first.
    pub rows: Vec<TaughtRow>,
    /// The answer's probability without any of these.
    pub without_all: f64,
    /// All rows, if each was left out in turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub every: Vec<TaughtRow>,
    /// The rank correlation of the effects by gradients with those by retraining, if every row was left out in turn.
    pub agreement: Option<f64>,
}

/// One training row.
#[derive(Clone, Debug, Serialize)]
pub struct TaughtRow {
    /// Its number in the training set, from 0.
    pub row: u64,
    /// Its text.
    pub text: String,
    /// How often the run had read it.
    pub uses: u64,
    /// By how many nats its updates raised the answer's log-probability, to first order.
    pub effect: f64,
    /// The answer's probability if its targets are left out of the training.
    pub without: f64,
    /// The answer's probability if those of the rows listed before it are left out, too, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub together: Option<f64>,
}

impl Taught {
    /// A sentence on how the rows were found.
    pub fn how(&self) -> String {
        match self.n_proved == self.n_rows {
            true => format!(
                "each of the {} rows that the run had read by step {} in turn",
                self.n_rows, self.step
            ),
            false => format!(
                "of the {} rows that the run had read by step {}, the {} with the largest effect on the \
                 answer by their gradients, in turn",
                self.n_rows, self.step, self.n_proved
            ),
        }
    }
}

impl Taught {
    /// The median change of the answer's probability over all left-out rows.
    fn usual_change(&self) -> f64 {
        let mut changes: Vec<f64> =
            self.every.iter().map(|row| (self.probability - row.without).abs()).collect();
        changes.sort_by(f64::total_cmp);
        changes.get(changes.len() / 2).copied().unwrap_or(0.0)
    }

    /// The meaning of the columns.
    pub fn about(&self) -> String {
        let stepwise = match self.rows.len() > 1 && self.rows[0].together.is_some() {
            true => {
                " Rows with the same content replace each other, so the last column leaves out all rows \
                 from the first to this one."
            }
            false => "",
        };
        let agreement = self.agreement.map_or(String::new(), |agreement| {
            format!(
                " Leaving out any one of the {} rows moves the answer by {:.4} in the median; over all of \
                 them, the order by gradients and the order by retraining have a rank correlation of \
                 {agreement:.2}.",
                self.n_rows,
                self.usual_change()
            )
        });
        format!(
            "Gradients: by how many nats a row's updates raised the log-probability along the run, to first \
             order.{stepwise}{agreement}"
        )
    }
}

/// Prints the rows that an answer depends on.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print(taught: &Taught, explanation: &Explanation, paper: &mut Paper) -> Result<()> {
    let answer = shown(&explanation.piece(&taught.target));
    paper.heading(&format!("Who taught it \"{answer}\""))?;
    paper.note(&format!(
        "The training was repeated without the targets of a row, everything else unchanged: {}. With all \
         rows, \"{answer}\" has probability {:.4}.",
        taught.how(),
        taught.probability
    ))?;
    let stepwise = taught.rows.len() > 1 && taught.rows[0].together.is_some();
    // Each with its width, and whether it is shown.
    let columns = [
        ("read", 5, paper.width() >= 96),
        ("gradients", 9, paper.is_wide()),
        ("without it", 10, true),
        ("and all above", 13, stepwise),
    ];
    let taken: usize = columns.iter().filter(|(.., is_shown)| *is_shown).map(|(_, width, _)| width + 2).sum();
    let room = paper.width().saturating_sub(taken + 2).max(12);
    let signed = |effect: f64| match fixed(effect, 3) {
        below if below.starts_with('-') => below,
        above => format!("+{above}"),
    };
    let rows: Vec<Vec<Cell>> = taught
        .rows
        .iter()
        .map(|row| {
            let cells = [
                format!("{}×", row.uses),
                signed(row.effect),
                format!("{:.4}", row.without),
                row.together.map_or(String::new(), |together| format!("{together:.4}")),
            ];
            let shown = cells.into_iter().zip(columns).filter(|(_, (.., is_shown))| *is_shown);
            std::iter::once(cut(&row.text, room)).chain(shown.map(|(cell, _)| cell)).map(Cell::from).collect()
        })
        .collect();
    let shown = columns.iter().filter(|(.., is_shown)| *is_shown).map(|(name, ..)| *name);
    let header: Vec<&str> = std::iter::once("training row").chain(shown).collect();
    paper.table(&header, &rows)?;
    paper.blank()?;
    paper.text(&format!(
        "\"{answer}\": {:.4}; without {} {:.4}.",
        taught.probability,
        match taught.rows.len() {
            1 => "this row".to_owned(),
            n => format!("these {n} rows together"),
        },
        taught.without_all
    ))?;
    paper.note(&taught.about())
}

/// A text on one line, cut to `width`.
fn cut(text: &str, width: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if columns_of(&line) <= width {
        return line;
    }
    let mut short = String::new();
    for c in line.chars() {
        if columns_of(&short) + 2 > width {
            break;
        }
        short.push(c);
    }
    format!("{}…", short.trim_end())
}
