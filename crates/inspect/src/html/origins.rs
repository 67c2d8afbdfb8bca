//! Encodes queries and keys by their sources for a page.

use serde_json::{Value, json};

use super::pack;
use crate::origins::Origins;

/// The maximum size in bytes of the parts of all heads.
const ROOM: usize = 500_000;

/// The heads' parts, as far as there is room: each source separately, else the heads of each layer summed, else
/// omitted.
pub(super) fn packed(origins: &[Origins]) -> Vec<Value> {
    let mut room = ROOM;
    let mut heads = Vec::new();
    for own in origins {
        let fits =
            [head(own), head(&own.by_layer())].into_iter().find(|value| value.to_string().len() <= room);
        if let Some(value) = fits {
            room -= value.to_string().len();
            heads.push(value);
        }
    }
    heads
}

fn head(origins: &Origins) -> Value {
    let floats = |rows: &[Vec<f64>]| {
        pack::floats(&rows.iter().flatten().map(|&number| number as f32).collect::<Vec<_>>())
    };
    let parts = |parts: &[Vec<Vec<f64>>]| parts.iter().map(|rows| floats(rows)).collect::<Vec<_>>();
    json!({
        "layer": origins.layer,
        "head": origins.head,
        "sources": origins.sources,
        "q": parts(&origins.queries),
        "k": parts(&origins.keys),
        "bias": origins.bias.as_ref().map(|bias| floats(bias)),
    })
}
