//! An explanation printed to a terminal.

use std::io::Result;

use vulpes_generate::NextToken;

use super::Explanation;
use crate::terminal::{Cell, Paper, fixed, heat, shade, shown};

/// Prints the page: one head in full if one was chosen (or the model has only one), else all heads in brief.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print(
    explanation: &Explanation,
    layer: Option<usize>,
    head: Option<usize>,
    paper: &mut Paper,
) -> Result<()> {
    let config = &explanation.model;
    let tokens: Vec<String> = explanation.pieces.iter().map(|token| shown(token)).collect();
    paper.heading("Tokens")?;
    let row = |(place, token): (usize, &String)| {
        vec![token.as_str().into(), place.to_string().into(), explanation.ids[place].to_string().into()]
    };
    paper.table(&["token", "place", "id"], &tokens.iter().enumerate().map(row).collect::<Vec<_>>())?;

    let layers = layer.map_or(0..config.n_layer, |layer| layer..layer + 1);
    let heads = head.map_or(0..config.n_head, |head| head..head + 1);
    if layers.len() * heads.len() == 1 {
        one_head(explanation, layers.start, heads.start, &tokens, paper)?;
    } else {
        brief(explanation, layers, heads, &tokens, paper)?;
    }
    match explanation.next.is_empty() {
        true => embedding(explanation, paper),
        false => next(explanation, &tokens, paper),
    }
}

fn one_head(
    explanation: &Explanation,
    l: usize,
    h: usize,
    tokens: &[String],
    paper: &mut Paper,
) -> Result<()> {
    let position = explanation.position;
    let (before, after) = ways(explanation, l);
    paper.heading(&format!("Layer {l}: how queries, keys and values are computed"))?;
    paper.note(&match l {
        0 => "x is the sum of the embeddings; each head has its part of Q, K and V.".to_owned(),
        _ => format!("x is the output of layer {}; each head has its part of Q, K and V.", l - 1),
    })?;
    before.iter().try_for_each(|formula| paper.text(formula))?;
    paper.heading(&format!("Layer {l}, head {h}: scores q·k × {:.4}", explanation.scale))?;
    paper
        .note("Each row is a query: what that token looks for. Each column is a key: what a token offers.")?;
    let scores = &explanation.scores[l][h];
    square(tokens, paper, &|q, k| fixed(scores[q][k], 2).into())?;
    paper.heading("Mask")?;
    paper.note("●: visible; ·: masked, weight 0.")?;
    square(tokens, paper, &|q, k| if explanation.mask(l)[q][k] == 1 { "●" } else { "·" }.into())?;
    paper.heading("Attention weights α: softmax of each row")?;
    paper.note("How much of each column's value goes into the row's context vector. Each row sums to 1.")?;
    let weights = &explanation.attentions[l][h];
    let mut header = vec![String::new()];
    header.extend(tokens.iter().cloned());
    header.push("sum".into());
    let rows: Vec<Vec<Cell>> = (0..tokens.len())
        .map(|q| {
            let mut row: Vec<Cell> = vec![tokens[q].as_str().into()];
            row.extend(weights[q].iter().enumerate().map(|(k, &weight)| match explanation.mask(l)[q][k] {
                1 => Cell::styled(
                    format!(" {weight:.3} {} ", shade(f64::from(weight))),
                    heat(f64::from(weight)),
                ),
                _ => "· ".into(),
            }));
            row.push(format!("{:.3}", weights[q].iter().sum::<f32>()).into());
            row
        })
        .collect();
    paper.table(&header.iter().map(String::as_str).collect::<Vec<_>>(), &rows)?;
    paper.heading(&format!("Context vector of \"{}\"", tokens[position]))?;
    paper.note("The sum of weight × value over the row: the output of this head.")?;
    let numbers: Vec<String> =
        explanation.contexts[l][h][position].iter().map(|&value| fixed(value, 4)).collect();
    paper.text(&format!("[{}]", numbers.join(", ")))?;
    paper.heading(&format!("Layer {l}: from the context vectors to its output"))?;
    let n_head = explanation.model.n_head;
    paper.note(&format!(
        "{}z is the layer's output; it goes to {}.",
        if n_head > 1 { "The context vectors of all heads are concatenated. " } else { "" },
        if l + 1 < explanation.model.n_layer {
            format!("layer {}, which reads it as x", l + 1)
        } else if explanation.model.block.has_final_norm() {
            "the head, through a final norm".to_owned()
        } else {
            "the head unchanged".to_owned()
        }
    ))?;
    after.iter().try_for_each(|formula| paper.text(formula))
}

/// A layer's formulas: those up to the values, and those after the context vectors.
fn ways(explanation: &Explanation, layer: usize) -> (&[String], &[String]) {
    let formulas = explanation.formulas.get(layer).map_or(&[][..], Vec::as_slice);
    let values = formulas.iter().position(|formula| formula.starts_with("V = "));
    formulas.split_at(values.map_or(0, |place| place + 1))
}

/// A table of every query against every key.
fn square(tokens: &[String], paper: &mut Paper, cell: &dyn Fn(usize, usize) -> Cell) -> Result<()> {
    let header: Vec<&str> = std::iter::once("").chain(tokens.iter().map(String::as_str)).collect();
    let row = |q: usize| {
        let mut row: Vec<Cell> = vec![tokens[q].as_str().into()];
        row.extend((0..tokens.len()).map(|k| cell(q, k)));
        row
    };
    paper.table(&header, &(0..tokens.len()).map(row).collect::<Vec<_>>())
}

/// All heads: a small map of each, and where the target token attends.
fn brief(
    explanation: &Explanation,
    layers: std::ops::Range<usize>,
    heads: std::ops::Range<usize>,
    tokens: &[String],
    paper: &mut Paper,
) -> Result<()> {
    let (n, position) = (tokens.len(), explanation.position);
    paper.heading("Attention weights of every head, in brief")?;
    paper.note(
        "Rows are queries, columns keys, from first to last token; darker is more. --layer L --head H shows one in full.",
    )?;
    let width = n.max(9);
    let beside = ((paper.width() - 2) / (width + 3)).max(1);
    let all: Vec<(usize, usize)> = layers.flat_map(|l| heads.clone().map(move |h| (l, h))).collect();
    // A map of many tokens doesn't fit a terminal; the target token's attention does.
    if n <= 24 {
        for group in all.chunks(beside) {
            paper.blank()?;
            let titles = group.iter().map(|(l, h)| format!("{:<width$}", format!("{l}.{h}")));
            paper.line(&titles.collect::<Vec<_>>().join("   "))?;
            for q in 0..n {
                let line = group.iter().map(|&(l, h)| {
                    let glyph = |k: usize| match explanation.mask(l)[q][k] {
                        1 => shade(f64::from(explanation.attentions[l][h][q][k])),
                        _ => ' ',
                    };
                    format!("{:<width$}", (0..n).map(glyph).collect::<String>())
                });
                paper.line(&line.collect::<Vec<_>>().join("   "))?;
            }
        }
    }
    paper.heading(&format!("Where \"{}\" looks", tokens[position]))?;
    let n_top = paper.words_beside(18);
    let rows: Vec<Vec<Cell>> = all
        .iter()
        .map(|&(l, h)| {
            let weights = &explanation.attentions[l][h][position];
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
            let top: Vec<String> =
                order.iter().take(n_top).map(|&k| format!("{} {:.2}", tokens[k], weights[k])).collect();
            let spread: f64 =
                weights.iter().map(|&w| f64::from(w)).filter(|w| *w > 0.0).map(|w| -w * w.ln()).sum();
            vec![format!("{l}.{h}").into(), fixed(spread, 2).into(), top.join(", ").into()]
        })
        .collect();
    paper.table(&["head", "entropy", "most of its weight"], &rows)
}

/// The embedding of the text, from a model without a head.
fn embedding(explanation: &Explanation, paper: &mut Paper) -> Result<()> {
    let vector = &explanation.embedding;
    let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    paper.heading("Embedding")?;
    paper.note(&format!(
        "This model has no head: it predicts nothing. The text's vector is {}: {} values, length {norm:.3}. \
         --json prints them.",
        explanation.embedding_is,
        vector.len()
    ))
}

fn next(explanation: &Explanation, tokens: &[String], paper: &mut Paper) -> Result<()> {
    let position = explanation.position;
    let title = match explanation.model.head {
        vulpes_model::Head::MaskedToken => {
            format!("The word at \"{}\" (position {position})", tokens[position])
        }
        vulpes_model::Head::Classify { .. } => "Label".into(),
        _ => "Next word".into(),
    };
    paper.heading(&title)?;
    let n_column = if paper.is_wide() { 4 } else { 3 };
    let row = |line: &NextToken| -> Vec<Cell> {
        let bar = "█".repeat((line.probability * 30.0).round() as usize);
        let numbers = [format!("{:.4}", line.probability), fixed(line.logit, 3), format!("{bar:<30}")];
        std::iter::once(shown(&explanation.piece(line)))
            .chain(numbers)
            .take(n_column)
            .map(Cell::from)
            .collect()
    };
    paper.table(
        &["", "probability", "logit", ""][..n_column],
        &explanation.next.iter().take(10).map(row).collect::<Vec<_>>(),
    )
}
