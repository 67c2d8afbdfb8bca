//! What a prediction depends on, printed to a terminal.

use std::io::Result;

use vulpes_generate::NextToken;

use crate::explanation::Explanation;
use crate::gradients::{Flow, GradientFlow};
use crate::influence::{Knockout, LensLayer};
use crate::terminal::{Cell, Paper, fixed, shown};
use crate::update::Update;

/// Prints how the prediction forms layer by layer.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print_lens(lens: &[LensLayer], explanation: &Explanation, paper: &mut Paper) -> Result<()> {
    if lens.is_empty() {
        return Ok(());
    }
    paper.heading("How the prediction forms, layer by layer")?;
    paper.note("What the model would predict if it ended there (logit lens).")?;
    let n_top = paper.words_beside(26);
    let rows: Vec<Vec<Cell>> = lens
        .iter()
        .map(|layer| {
            let top: Vec<String> = layer
                .next
                .iter()
                .take(n_top)
                .map(|n| format!("{} {:.2}", shown(&explanation.piece(n)), n.probability))
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

/// Prints what the prediction loses without each token.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print_knockouts(
    knockouts: &[Knockout],
    target: &str,
    explanation: &Explanation,
    paper: &mut Paper,
) -> Result<()> {
    paper.heading(&format!("What \"{}\" depends on", shown(target)))?;
    paper.note(
        "The change in its log-probability when a word is hidden from all others, in every layer. Below 0: \
         the word is needed.",
    )?;
    let signed = |change: f64| match fixed(change, 4) {
        below if below.starts_with('-') => below,
        other => format!("+{other}"),
    };
    let rows: Vec<Vec<Cell>> = knockouts
        .iter()
        .map(|k| vec![shown(&explanation.pieces[k.position]).into(), signed(k.change).into()])
        .collect();
    paper.table(&["hidden", "change"], &rows)
}

/// Prints the backward pass: the loss, and the gradient of every part of the model; of every parameter if they are
/// few.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print_gradients(flow: &GradientFlow, explanation: &Explanation, paper: &mut Paper) -> Result<()> {
    paper.heading("Backward pass: where the gradient goes")?;
    paper.text(&format!(
        "1. Compute loss. The true word is \"{}\"; the model's probability for it is {:.4}, so the loss is \
         -ln({:.4}) = {:.4}.",
        shown(&flow.target.text),
        flow.target.probability,
        flow.target.probability,
        flow.loss
    ))?;
    paper.text(
        "2. Backpropagate through the output projection, the context vector, the V vectors and the attention scores. \
         Each part learns as much as it contributed to the prediction error: its gradient's norm, and its \
         share of the squared norm of all.",
    )?;
    paper.blank()?;
    table("part", &flow.roles, paper)?;
    paper.blank()?;
    let share = |name: &str| -> f64 {
        100.0 * flow.roles.iter().filter(|role| role.name == name).map(|role| role.share).sum::<f64>()
    };
    paper.text(&format!(
        "Wq, Wk and Wv are learnable projection matrices: {}. If attention misfires (looks at the wrong word), gradients \
         flow into Wq and Wk: here {:.1} %. If the content from a word misleads the output, gradients flow into Wv: \
         here {:.1} %.",
        projections(explanation),
        share("Wq") + share("Wk"),
        share("Wv")
    ))?;
    paper.blank()?;
    table("block", &flow.parts, paper)?;
    if flow.parameters.len() <= 60 {
        paper.blank()?;
        table("parameter", &flow.parameters, paper)?;
    }
    Ok(())
}

/// Prints the effect of one update: the rate, the loss and the most likely outputs, before and after.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print_update(update: &Update, explanation: &Explanation, paper: &mut Paper) -> Result<()> {
    paper.heading("One update: the prediction after it")?;
    let truth = shown(&explanation.piece(&update.truth));
    let supposed = match update.is_supposed {
        true => format!("Suppose that \"{truth}\", the second choice, had been the true answer. "),
        false => String::new(),
    };
    paper.text(&format!(
        "{supposed}One step of gradient descent, θ ← θ - η × gradient on every parameter, with η = {} ({}): the loss of \
         \"{truth}\" goes from {:.4} to {:.4}.",
        update.learning_rate,
        update.why(),
        update.loss[0],
        update.loss[1]
    ))?;
    let [value, gradient, after] = update.one_number;
    paper.text(&format!(
        "One of the parameters, the first of its row in Wout: {value:.4} - {} × ({gradient:.4}) = \
         {after:.4}.",
        update.learning_rate
    ))?;
    paper.blank()?;
    let row = |pair: &[NextToken; 2]| -> Vec<Cell> {
        let chance = |line: &NextToken| format!("{:.4}", line.probability).into();
        vec![shown(&explanation.piece(&pair[0])).into(), chance(&pair[0]), chance(&pair[1])]
    };
    paper.table(&["", "before", "after"], &update.outputs.iter().map(row).collect::<Vec<_>>())
}

/// How Q, K and V are computed.
fn projections(explanation: &Explanation) -> String {
    let of_first = explanation.formulas.first().into_iter().flatten();
    let made = of_first.filter(|formula| formula.contains(" = W") && formula.starts_with(['Q', 'K', 'V']));
    made.cloned().collect::<Vec<_>>().join(", ")
}

fn table(title: &str, flows: &[Flow], paper: &mut Paper) -> Result<()> {
    let n_column = if paper.is_wide() { 4 } else { 3 };
    let room = paper.width().saturating_sub(24);
    let name = |name: &str| match name.chars().count() {
        n if n > room => format!("…{}", name.chars().skip(n + 1 - room).collect::<String>()),
        _ => name.to_owned(),
    };
    let row = |part: &Flow| -> Vec<Cell> {
        let bar = "█".repeat((part.share * 20.0).round() as usize);
        let norm = if part.norm < 1e-4 { format!("{:.2e}", part.norm) } else { format!("{:.6}", part.norm) };
        let cells = [norm, format!("{:.4}", part.share), format!("{bar:<20}")];
        std::iter::once(name(&part.name)).chain(cells).take(n_column).map(Cell::from).collect()
    };
    paper.table(&[title, "norm", "share", ""][..n_column], &flows.iter().map(row).collect::<Vec<_>>())
}
