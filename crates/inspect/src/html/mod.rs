//! An explanation as one offline page: every head, every cell's arithmetic, the prediction's causes.
//!
//! The page contains the model's own values; its script recomputes everything from them. Weights are included for
//! every cell, to 2⁻²¹. Queries, keys and values, as float32, are included for as many heads as the size allows:
//! those of the selected head first, then those of a head in each layer, then the others. With [`Live`] the page
//! contains the model itself and computes all of these values for any other text.

#[cfg(test)]
mod equations;
mod film;
mod origins;
#[cfg(test)]
mod tests;
mod walkthrough;
mod way;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use vulpes_generate::NextToken;

pub use film::{Story, film_page};
pub use walkthrough::walkthrough_page;

use crate::explanation::{Explanation, Said};
use crate::gradients::GradientFlow;
use crate::habits::NamedHead;
use crate::influence::{Knockout, LensLayer, Projection};
use crate::live::Live;
use crate::origins::Origins;
use crate::pack;
use crate::taught::Taught;
use crate::update::Update;
use crate::way::Way;

const TEMPLATE: &str = include_str!("page/explanation.html");
/// Nothing is fetched, and only the page's own script runs.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src OWN; base-uri 'none'; form-action 'none'";
const STYLE: &str =
    concat!(include_str!("page/style.css"), include_str!("page/sources.css"), include_str!("page/live.css"));
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/equations.js"),
    include_str!("page/steps.js"),
    include_str!("page/prediction.js"),
    include_str!("page/origins.js"),
    include_str!("page/habits.js"),
    include_str!("page/taught.js"),
    include_str!("page/explanation.js")
);

/// The part of [`SCRIPT`] for pages that contain the model: the forward pass, and the controls that change it.
const LIVE_SCRIPT: &str = concat!(
    include_str!("page/live/operations.js"),
    include_str!("page/live/forward.js"),
    include_str!("page/live/tokenizer.js"),
    include_str!("page/live/origins.js"),
    include_str!("page/live/explained.js"),
    include_str!("page/live/state.js"),
    include_str!("page/live/compare.js"),
    include_str!("page/live/controls.js"),
    include_str!("page/live/live.js")
);

/// The vectors of heads are included while their size stays below this many bytes.
const ROOM: usize = 2_812_000;

/// The maximum size of a page with the model in it, in bytes, unless a larger one is requested.
pub const MOST: usize = 3_000_000;

/// What a page shows in addition to the explanation itself.
#[derive(Clone, Debug)]
pub struct Extras {
    /// How the prediction forms layer by layer.
    pub lens: Vec<LensLayer>,
    /// What the prediction loses without each token.
    pub knockouts: Vec<Knockout>,
    /// The target token of knockouts and gradients.
    pub target: NextToken,
    /// Whether the user named the target; otherwise it is the model's own answer.
    pub is_target_given: bool,
    /// The gradients of its loss.
    pub gradients: Option<GradientFlow>,
    /// The effect of one update on it.
    pub update: Option<Update>,
    /// How every value is computed.
    pub way: Way,
    /// From the last vectors to the logits.
    pub projection: Option<Projection>,
    /// The model's prediction at every token.
    pub said: Vec<Said>,
    /// How the answer was learned, if the run has snapshots of this text.
    pub story: Option<Story>,
    /// The sources of the queries and keys of some heads, at every position.
    pub origins: Vec<Origins>,
    /// What each head does.
    pub habits: Vec<NamedHead>,
    /// The training rows that the target depends on.
    pub taught: Option<Taught>,
    /// The head to open first.
    pub first: (usize, usize),
    /// Whether the user named it; otherwise it is the least uniform one.
    pub is_first_given: bool,
    /// The model itself, if the page is to run it.
    pub live: Option<Live>,
}

/// The complete page.
///
/// # Errors
/// Returns an error if the numbers can't be written as JSON.
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
    let (mut origins, mut habits) = (origins::packed(&extras.origins), serde_json::to_value(&extras.habits)?);
    let listed_rows = |taught: &Taught| Taught { every: Vec::new(), ..taught.clone() };
    let taught = serde_json::to_value(extras.taught.as_ref().map(listed_rows))?;
    let own: usize = origins.iter().chain([&habits]).map(|value| value.to_string().len()).sum();
    let listed =
        taught.to_string().len() + said.to_string().len() + serde_json::to_string(&projection)?.len();
    let carried = extras.live.as_ref().map_or(0, |live| live.size() + LIVE_SCRIPT.len());
    let mut room = ROOM.saturating_sub(used + listed + carried);
    // The first head and its context, a head of each layer; then the others while there is room.
    let mut vectors = Vectors::default();
    let order = order(config.n_layer, config.n_head, extras.first);
    let (early, late) = order.split_at(order.len().min(config.n_layer.max(1)));
    if own + vectors.size(explanation, &extras.way, early) > room {
        // The arithmetic of every layer takes precedence over the sources of `--cell`, too.
        (origins, habits) = (Vec::new(), json!([]));
    } else {
        room -= own;
    }
    let mut for_layers = room.saturating_sub(vectors.size(explanation, &extras.way, early));
    let all = for_layers;
    let way = way::packed(&extras.way, extras.first.0, &mut for_layers);
    room = room.saturating_sub(all - for_layers);
    // With a bias on the scores a page can't compute weights from queries and keys alone: it shows the weights.
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
        "d_model": config.d_model,
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
        "origins": origins,
        "habits": habits,
        "taught": taught,
        "taught_how": extras.taught.as_ref().map(Taught::how),
        "taught_about": extras.taught.as_ref().map(Taught::about),
        "first": [extras.first.0, extras.first.1],
        "first_given": extras.is_first_given,
        "live": extras.live.as_ref().map(Live::value),
    });
    let title = explanation.tokens.iter().map(|token| token.trim()).collect::<Vec<_>>().join(" ");
    let title: String = title.chars().take(80).collect();
    match &extras.live {
        None => filled(TEMPLATE, SCRIPT, &title, &data),
        Some(_) => filled(TEMPLATE, &[SCRIPT, LIVE_SCRIPT].concat(), &title, &data),
    }
}

/// Queries, keys and values of heads, by layer and number.
#[derive(Default)]
struct Vectors(serde_json::Map<String, serde_json::Value>);

impl Vectors {
    /// Adds heads while they fit into `room` bytes.
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

    /// The size of these heads in bytes.
    fn size(&self, explanation: &Explanation, way: &Way, heads: &[(usize, usize)]) -> usize {
        let size = |&place: &(usize, usize)| {
            of_head(explanation, way, place).values().map(String::len).sum::<usize>()
        };
        heads.first().map_or(0, size) * heads.len()
    }
}

/// Queries, keys and values of one head, and those before rotation if there is one.
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
        let unrotated = way.layers.get(layer).and_then(|part| part.get(name));
        if let Some(equation) = unrotated.filter(|equation| !equation.values.is_empty()) {
            let d = config.d_head;
            let rows = equation.values.iter().flat_map(|row| &row[head * d..(head + 1) * d]);
            packed.insert(key, pack::floats(&rows.copied().collect::<Vec<_>>()));
        }
    }
    packed
}

/// A template with its style, script, title and data filled in.
pub(crate) fn filled(
    template: &str,
    script: &str,
    title: &str,
    data: &impl Serialize,
) -> serde_json::Result<String> {
    // Inside a script element only "<" could end it; JSON can escape it.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    // The page's own script is the only one that may run.
    let own = format!("'sha256-{}'", pack::base64(&Sha256::digest(script)));
    // The data is filled in last: nothing in it is taken for a placeholder.
    Ok(template
        .replace("<!--POLICY-->", &POLICY.replace("OWN", &own))
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
