//! An explanation as one page that works offline: every head, the arithmetic of every cell, and what the prediction
//! hangs on.
//!
//! The page holds the model's own numbers; its script does the arithmetic again from them, in front of the reader.
//! Weights are there for every cell, to 2⁻²¹. Queries, keys and values, as float32, are there for as many heads as the
//! size allows: those of the head that was asked for first, then those of a head in each layer, then the others.

#[cfg(test)]
mod equations;
mod film;
mod pack;
#[cfg(test)]
mod tests;
mod way;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use vulpes_generate::NextToken;

pub use film::{Story, film_page};

use crate::explanation::{Explanation, Said};
use crate::gradients::GradientFlow;
use crate::influence::{Knockout, LensLayer, Projection};
use crate::update::Update;
use crate::way::Way;

const TEMPLATE: &str = include_str!("page/explanation.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/equations.js"),
    include_str!("page/steps.js"),
    include_str!("page/prediction.js"),
    include_str!("page/explanation.js")
);

/// The vectors of a head take part in the page while the numbers stay below this many bytes.
const ROOM: usize = 2_850_000;

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
    /// What one update does to it.
    pub update: Option<Update>,
    /// How every value on the way is made.
    pub way: Way,
    /// From the last vectors to the logits.
    pub projection: Option<Projection>,
    /// What the model says at every token.
    pub said: Vec<Said>,
    /// How the answer was learned, where the run has a film of this text.
    pub story: Option<Story>,
    /// The head to open first.
    pub first: (usize, usize),
    /// Whether somebody named it, or it is the most telling one.
    pub is_first_given: bool,
}

/// The whole page.
///
/// # Errors
/// Where the numbers can't be written as JSON.
pub fn page(explanation: &Explanation, extras: &Extras) -> serde_json::Result<String> {
    let config = &explanation.model;
    let allowed = |layer: usize, grid: &[Vec<f32>]| -> Vec<f32> {
        let cells = grid.iter().zip(explanation.mask(layer)).flat_map(|(row, mask)| row.iter().zip(mask));
        cells.filter(|(_, mask)| **mask == 1).map(|(value, _)| *value).collect()
    };
    let weights: Vec<Vec<String>> = explanation
        .attentions
        .iter()
        .enumerate()
        .map(|(l, layer)| layer.iter().map(|head| pack::weights(&allowed(l, head))).collect())
        .collect();
    let cells = |row: &Vec<u8>| row.iter().map(|cell| if *cell == 1 { '1' } else { '0' }).collect();
    let masks: Vec<Vec<String>> =
        explanation.masks.iter().map(|mask| mask.iter().map(cells).collect()).collect();
    let piece = |next: &NextToken| NextToken { text: explanation.piece(next), ..next.clone() };
    let pieces = |next: &[NextToken]| next.iter().map(piece).collect::<Vec<_>>();
    let said = |said: &Said| Said {
        next: pieces(&said.next),
        truth: said.truth.as_ref().map(piece),
        ..said.clone()
    };
    let said = serde_json::to_value(extras.said.iter().map(said).collect::<Vec<_>>())?;
    let lens = |layer: &LensLayer| LensLayer { next: pieces(&layer.next), ..layer.clone() };
    let lens: Vec<LensLayer> = extras.lens.iter().map(lens).collect();
    let update = extras.update.clone().map(|update| Update {
        truth: piece(&update.truth),
        outputs: update.outputs.iter().map(|pair| [piece(&pair[0]), piece(&pair[1])]).collect(),
        ..update
    });
    let projection = extras.projection.as_ref().map(way::projection);
    let used: usize = weights.iter().flatten().map(String::len).sum();
    let listed = said.to_string().len() + serde_json::to_string(&projection)?.len();
    let mut room = ROOM.saturating_sub(used + listed);
    // The first head, what surrounds it, a head of each layer; then the rest as far as it goes.
    let mut vectors = Vectors::default();
    let order = order(config.n_layer, config.n_head, extras.first);
    let (early, late) = order.split_at(order.len().min(config.n_layer.max(1)));
    let mut for_layers = room.saturating_sub(vectors.size(explanation, &extras.way, early));
    let all = for_layers;
    let way = way::packed(&extras.way, extras.first.0, &mut for_layers);
    room = room.saturating_sub(all - for_layers);
    // With a bias on the scores a page can't make weights of queries and keys alone: it shows the weights.
    if config.relative_bias.is_none() {
        vectors.add(explanation, &extras.way, early, &mut room);
        vectors.add(explanation, &extras.way, late, &mut room);
    }
    let data = json!({
        "family": config.family,
        "head": config.head,
        "block": config.block,
        "positions": config.positions,
        "causal": config.mask == vulpes_model::config::MaskKind::Causal,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_kv_head": config.n_kv_head,
        "d_head": config.d_head,
        "n_output": explanation.logits.first().map_or(0, Vec::len),
        "scale": explanation.scale,
        "tokens": explanation.pieces,
        "ids": explanation.ids,
        "position": explanation.position,
        "pooling": config.pooling,
        "masks": masks,
        "kinds": explanation.kinds,
        "weights": weights,
        "way": way,
        "vectors": vectors.0,
        "said": said,
        "next": pieces(&explanation.next[..explanation.next.len().min(8)]),
        "projection": projection,
        "lens": lens,
        "knockouts": extras.knockouts,
        "target": extras.target,
        "target_given": extras.is_target_given,
        "gradients": extras.gradients,
        "update": update,
        "update_why": extras.update.as_ref().map(Update::why),
        "story": extras.story,
        "first": [extras.first.0, extras.first.1],
        "first_given": extras.is_first_given,
    });
    let title = explanation.tokens.iter().map(|token| token.trim()).collect::<Vec<_>>().join(" ");
    let title: String = title.chars().take(80).collect();
    filled(TEMPLATE, SCRIPT, &title, &data)
}

/// Queries, keys and values of heads, each under its layer and number.
#[derive(Default)]
struct Vectors(serde_json::Map<String, serde_json::Value>);

impl Vectors {
    /// Adds heads while `room` bytes hold them.
    fn add(&mut self, explanation: &Explanation, way: &Way, heads: &[(usize, usize)], room: &mut usize) {
        for &place in heads {
            let packed = of_head(explanation, way, place);
            let size: usize = packed.values().map(String::len).sum();
            if size > *room {
                break;
            }
            *room -= size;
            self.0.insert(format!("{}.{}", place.0, place.1), json!(packed));
        }
    }

    /// The bytes that these heads take.
    fn size(&self, explanation: &Explanation, way: &Way, heads: &[(usize, usize)]) -> usize {
        let size = |&place: &(usize, usize)| {
            of_head(explanation, way, place).values().map(String::len).sum::<usize>()
        };
        heads.first().map_or(0, size) * heads.len()
    }
}

/// Queries, keys and values of one head; those before rotation, too, where there is one.
fn of_head(
    explanation: &Explanation,
    way: &Way,
    (layer, head): (usize, usize),
) -> BTreeMap<&'static str, String> {
    let config = &explanation.model;
    let group = head / (config.n_head / config.n_kv_head.max(1)).max(1);
    let of = |grid: &[Vec<f32>]| pack::floats(&grid.concat());
    let mut packed = BTreeMap::from([
        ("q", of(&explanation.queries[layer][head])),
        ("k", of(&explanation.keys[layer][group])),
        ("v", of(&explanation.values[layer][group])),
    ]);
    for (name, key, head) in [("Q₀", "q0", head), ("K₀", "k0", group)] {
        let unturned = way.layers.get(layer).and_then(|part| part.get(name));
        if let Some(equation) = unturned.filter(|equation| !equation.values.is_empty()) {
            let d = config.d_head;
            let rows = equation.values.iter().flat_map(|row| &row[head * d..(head + 1) * d]);
            packed.insert(key, pack::floats(&rows.copied().collect::<Vec<_>>()));
        }
    }
    packed
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
