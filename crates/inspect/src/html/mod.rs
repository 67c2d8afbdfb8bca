//! An explanation as one page that works offline: every head, the arithmetic of every cell, and what the prediction
//! hangs on.
//!
//! The page holds the model's own numbers; its script does the arithmetic again from them, in front of the reader.
//! Weights are there for every cell, to 2⁻²¹. Queries, keys and values, as float32, are there for as many heads as the
//! size allows: those of the head that was asked for first, then those of a head in each layer, then the others.

mod film;
mod pack;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::json;

pub use film::{Story, film_page};

use crate::explanation::{Explanation, NextToken};
use crate::gradients::GradientFlow;
use crate::influence::{Knockout, LensLayer, Projection};

const TEMPLATE: &str = include_str!("page/explanation.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str =
    concat!(include_str!("page/base.js"), include_str!("page/steps.js"), include_str!("page/explanation.js"));

/// The vectors of a head take part in the page while the numbers stay below this many bytes.
const ROOM: usize = 2_850_000;
/// Of wider vectors that enter a layer only the first numbers are shown.
const WIDE: (usize, usize) = (64, 16);

/// What a page shows beside the explanation itself.
#[derive(Clone, Debug)]
pub struct Extras {
    /// How the prediction forms layer by layer.
    pub lens: Vec<LensLayer>,
    /// What it loses without each token.
    pub knockouts: Vec<Knockout>,
    /// The token that the knock-outs and gradients are about.
    pub target: NextToken,
    /// Whether somebody named the target, or it is the model's own answer.
    pub is_target_given: bool,
    /// Who learns from it.
    pub gradients: Option<GradientFlow>,
    /// From the last vector to the logits, where one matrix makes them.
    pub projection: Option<Projection>,
    /// How the answer was learned, where the run has a film of this text.
    pub story: Option<Story>,
    /// The head to open first.
    pub first: (usize, usize),
}

/// The whole page.
///
/// # Errors
/// Where the numbers can't be written as JSON.
pub fn page(explanation: &Explanation, extras: &Extras) -> serde_json::Result<String> {
    let config = &explanation.model;
    let allowed = |grid: &[Vec<f32>]| -> Vec<f32> {
        let cells = grid.iter().zip(&explanation.mask).flat_map(|(row, mask)| row.iter().zip(mask));
        cells.filter(|(_, mask)| **mask == 1).map(|(value, _)| *value).collect()
    };
    let weights: Vec<Vec<String>> = explanation
        .attentions
        .iter()
        .map(|layer| layer.iter().map(|head| pack::weights(&allowed(head))).collect())
        .collect();
    let d_input = explanation.inputs.first().and_then(|layer| layer.first()).map_or(0, Vec::len);
    let n_input = if d_input > WIDE.0 { WIDE.1 } else { d_input };
    let inputs: Vec<String> = explanation
        .inputs
        .iter()
        .map(|layer| pack::floats(&layer.iter().flat_map(|x| &x[..n_input]).copied().collect::<Vec<_>>()))
        .collect();
    let used = weights.iter().flatten().chain(&inputs).map(String::len).sum();
    let mask: Vec<String> = explanation
        .mask
        .iter()
        .map(|row| row.iter().map(|cell| if *cell == 1 { '1' } else { '0' }).collect())
        .collect();
    let projection = extras.projection.as_ref().map(|projection| {
        json!({ "hidden": pack::floats(&projection.hidden), "rows": pack::floats(&projection.rows.concat()) })
    });
    let data = json!({
        "family": config.family,
        "head": config.head,
        "block": config.block,
        "positions": config.positions,
        "causal": config.mask == vulpes_model::config::MaskKind::Causal,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "d_head": config.d_head,
        "d_input": d_input,
        "n_input": n_input,
        "n_output": explanation.logits.first().map_or(0, Vec::len),
        "scale": explanation.scale,
        "tokens": explanation.tokens,
        "ids": explanation.ids,
        "position": explanation.position,
        "mask": mask,
        "weights": weights,
        "inputs": inputs,
        "vectors": vectors(explanation, extras.first, ROOM.saturating_sub(used)),
        "next": &explanation.next[..explanation.next.len().min(8)],
        "projection": projection,
        "lens": extras.lens,
        "knockouts": extras.knockouts,
        "target": extras.target,
        "target_given": extras.is_target_given,
        "gradients": extras.gradients,
        "story": extras.story,
        "first": [extras.first.0, extras.first.1],
    });
    let title = explanation.tokens.iter().map(|token| token.trim()).collect::<Vec<_>>().join(" ");
    let title: String = title.chars().take(80).collect();
    filled(TEMPLATE, SCRIPT, &title, &data)
}

/// Queries, keys and values of as many heads as `room` bytes hold.
fn vectors(explanation: &Explanation, first: (usize, usize), mut room: usize) -> serde_json::Value {
    let config = &explanation.model;
    let mut vectors = serde_json::Map::new();
    for (layer, head) in order(config.n_layer, config.n_head, first) {
        let group = head / (config.n_head / config.n_kv_head.max(1)).max(1);
        let of = |grid: &[Vec<f32>]| pack::floats(&grid.concat());
        let (q, k, v) = (
            of(&explanation.queries[layer][head]),
            of(&explanation.keys[layer][group]),
            of(&explanation.values[layer][group]),
        );
        let size = q.len() + k.len() + v.len();
        if size > room {
            break;
        }
        room -= size;
        vectors.insert(format!("{layer}.{head}"), json!({ "q": q, "k": k, "v": v }));
    }
    vectors.into()
}

/// A template with its style, script, title and data in their places.
pub(crate) fn filled(
    template: &str,
    script: &str,
    title: &str,
    data: &impl Serialize,
) -> serde_json::Result<String> {
    // Inside a script element only "<" could end it; JSON can say it otherwise.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    // The data goes in last: nothing in it is taken for a place to fill.
    Ok(template
        .replace("/*STYLE*/", STYLE)
        .replace("/*SCRIPT*/", script)
        .replace("<!--TITLE-->", &title)
        .replacen("<!--DATA-->", &data, 1))
}

/// The order in which heads get room: the first, then one of each layer, then all.
fn order(n_layer: usize, n_head: usize, first: (usize, usize)) -> Vec<(usize, usize)> {
    let mut order = vec![first];
    let later =
        (0..n_head).flat_map(|step| (0..n_layer).map(move |layer| (layer, (first.1 + step) % n_head.max(1))));
    order.extend(later.filter(|place| *place != first));
    order
}
