//! An explanation as one page that works offline: every head, the arithmetic of every cell, and what the prediction
//! hangs on.
//!
//! The page holds the model's own numbers, float32 as base64; its script does the arithmetic again from them, in front
//! of the reader. Scores are there for every cell. Queries, keys and values are there for as many heads as the size
//! allows: those of the head that was asked for first, then those of a head in each layer, then the others.

mod film;

use serde::Serialize;
use serde_json::json;

pub use film::film_page;

use crate::influence::{GradientFlow, Knockout, LensLayer};
use crate::{Explanation, NextToken};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The vectors of a head take part in the page while the numbers stay below this many bytes.
const ROOM_FOR_VECTORS: usize = 2_600_000;

/// What a page shows beside the explanation itself.
#[derive(Clone, Debug)]
pub struct Extras {
    /// How the prediction forms layer by layer.
    pub lens: Vec<LensLayer>,
    /// What it loses without each token.
    pub knockouts: Vec<Knockout>,
    /// The token that the knock-outs and gradients are about.
    pub target: NextToken,
    /// Who learns from it.
    pub gradients: Option<GradientFlow>,
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
    let per_head = |grids: &[Vec<Vec<Vec<f32>>>]| -> Vec<Vec<String>> {
        grids.iter().map(|layer| layer.iter().map(|head| base64(&allowed(head))).collect()).collect()
    };
    let scores = per_head(&explanation.scores);
    let mut room = ROOM_FOR_VECTORS.saturating_sub(scores.iter().flatten().map(String::len).sum());
    let mut vectors = serde_json::Map::new();
    for (layer, head) in order(config.n_layer, config.n_head, extras.first) {
        let group = head / (config.n_head / config.n_kv_head.max(1)).max(1);
        let of = |grid: &[Vec<f32>]| base64(&grid.concat());
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
    let mask: Vec<String> = explanation
        .mask
        .iter()
        .map(|row| row.iter().map(|cell| if *cell == 1 { '1' } else { '0' }).collect())
        .collect();
    let data = json!({
        "family": config.family,
        "head": config.head,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "d_head": config.d_head,
        "scale": explanation.scale,
        "tokens": explanation.tokens,
        "ids": explanation.ids,
        "position": explanation.position,
        "mask": mask,
        "scores": scores,
        "vectors": vectors,
        "next": &explanation.next[..explanation.next.len().min(12)],
        "lens": extras.lens,
        "knockouts": extras.knockouts,
        "target": extras.target,
        "gradients": extras.gradients,
        "first": [extras.first.0, extras.first.1],
    });
    let title = explanation.tokens.iter().map(|token| token.trim()).collect::<Vec<_>>().join(" ");
    let title: String = title.chars().take(80).collect();
    filled(TEMPLATE, &title, &data)
}

/// A template with its style, script, title and data in their places.
pub(crate) fn filled(template: &str, title: &str, data: &impl Serialize) -> serde_json::Result<String> {
    // Inside a script element only "<" could end it; JSON can say it otherwise.
    let data = serde_json::to_string(data)?.replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    // The data goes in last: nothing in it is taken for a place to fill.
    Ok(template
        .replace("/*STYLE*/", STYLE)
        .replace("/*SCRIPT*/", SCRIPT)
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

/// Float32 numbers, little-endian, as base64 ([RFC 4648](https://www.rfc-editor.org/rfc/rfc4648)).
fn base64(numbers: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { letter as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        assert_eq!(base64(&[]), "");
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(base64(&[0.0, 0.0, 0.0]), "A".repeat(16));
    }

    #[test]
    fn every_head_has_its_turn_and_the_first_goes_first() {
        let order = order(2, 3, (1, 2));
        assert_eq!(order[..3], [(1, 2), (0, 2), (0, 0)]);
        let mut all = order.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!((all.len(), order.len()), (6, 6));
    }

    #[test]
    fn data_cannot_end_its_script() {
        let page = filled("<script><!--DATA--></script>", "t", &"</script><!--DATA-->").unwrap();
        assert_eq!(page.matches("</script>").count(), 1);
    }

    #[test]
    fn twelve_layers_of_twelve_heads_on_64_tokens_stay_below_3_mb() {
        use vulpes_model::{Head, ModelSection, config::Family};
        let section = ModelSection { family: Some(Family::Gpt2), ..ModelSection::default() };
        let (n, l, h, k) = (64, 12, 12, 64);
        let grid = |rows: usize, columns: usize| vec![vec![vec![vec![0.123_456_79f32; columns]; rows]; h]; l];
        let line = NextToken { id: 0, text: "word".into(), probability: 0.5, logit: 1.0 };
        let mut config = section.resolve(50_257, Head::NextToken);
        (config.n_layer, config.n_head, config.n_kv_head, config.d_head) = (l, h, h, k);
        let explanation = Explanation {
            model: config,
            tokens: vec!["word".into(); n],
            ids: vec![50_000; n],
            position: n - 1,
            scale: 0.125,
            mask: (0..n).map(|q| (0..n).map(|k| u8::from(k <= q)).collect()).collect(),
            scores: grid(n, n),
            attentions: grid(n, n),
            queries: grid(n, k),
            keys: grid(n, k),
            values: grid(n, k),
            contexts: grid(n, k),
            logits: vec![vec![0.0; 10]; n],
            next: vec![line.clone(); 50],
        };
        let lens = |after| LensLayer { after, next: vec![line.clone(); 5], probability: 0.1 };
        let extras = Extras {
            lens: (0..13).map(|layer| lens(format!("block {layer}"))).collect(),
            knockouts: (0..63).map(|position| Knockout { position, change: -0.123_456_789 }).collect(),
            target: line.clone(),
            gradients: None,
            first: (11, 3),
        };
        let page = page(&explanation, &extras).unwrap();
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
        // The asked head and one of each layer have their vectors.
        assert!((0..12).all(|layer| page.contains(&format!("\"{layer}.3\":"))));
    }
}
