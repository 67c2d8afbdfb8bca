//! What a prediction hangs on, as a page for a terminal.

use std::io::Result;

use crate::Explanation;
use crate::influence::{GradientFlow, Knockout, LensLayer};
use crate::terminal::{Cell, Paper, shown};

/// Writes how the prediction forms layer by layer.
///
/// # Errors
/// Where the page can't be written.
pub fn print_lens(lens: &[LensLayer], paper: &mut Paper) -> Result<()> {
    if lens.is_empty() {
        return Ok(());
    }
    paper.heading("How the prediction forms, layer by layer")?;
    paper.note("What the model would say if it ended there (logit lens).")?;
    let rows: Vec<Vec<Cell>> = lens
        .iter()
        .map(|layer| {
            let top: Vec<String> = layer
                .next
                .iter()
                .take(3)
                .map(|n| format!("{} {:.2}", shown(&n.text), n.probability))
                .collect();
            vec![
                layer.after.as_str().into(),
                format!("{:.4}", layer.probability).into(),
                top.join(", ").into(),
            ]
        })
        .collect();
    paper.table(&["after", "probability", "likeliest"], &rows)
}

/// Writes what the prediction loses without each token.
///
/// # Errors
/// Where the page can't be written.
pub fn print_knockouts(
    knockouts: &[Knockout],
    target: &str,
    explanation: &Explanation,
    paper: &mut Paper,
) -> Result<()> {
    paper.heading(&format!("What \"{}\" hangs on", shown(target)))?;
    paper.note(
        "The change in its log-probability when nobody may look at a word, in any layer. Below 0: the word is needed.",
    )?;
    let rows: Vec<Vec<Cell>> = knockouts
        .iter()
        .map(|k| vec![shown(&explanation.tokens[k.position]).into(), format!("{:+.4}", k.change).into()])
        .collect();
    paper.table(&["cut off", "change"], &rows)
}

/// Writes the gradient of every part of the model, and of every parameter where they are few.
///
/// # Errors
/// Where the page can't be written.
pub fn print_gradients(flow: &GradientFlow, paper: &mut Paper) -> Result<()> {
    paper.heading("Where it learns: the gradient of the loss")?;
    paper.text(&format!(
        "If the true word is \"{}\", the loss is -ln({:.4}) = {:.4}. Backpropagation sends it to every parameter; the \
         share is of the squared norm of all gradients together.",
        shown(&flow.target.text),
        flow.target.probability,
        flow.loss
    ))?;
    paper.blank()?;
    let table = |flows: &[crate::Flow], paper: &mut Paper| {
        let row = |part: &crate::Flow| -> Vec<Cell> {
            let bar = "█".repeat((part.share * 20.0).round() as usize);
            let cells = [format!("{:.6}", part.norm), format!("{:.4}", part.share), format!("{bar:<20}")];
            std::iter::once(part.name.clone()).chain(cells).map(Cell::from).collect()
        };
        paper.table(&["part", "norm", "share", ""], &flows.iter().map(row).collect::<Vec<_>>())
    };
    table(&flow.parts, paper)?;
    if flow.parameters.len() <= 60 {
        paper.blank()?;
        table(&flow.parameters, paper)?;
    }
    Ok(())
}
