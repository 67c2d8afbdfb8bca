//! Encodes the equations from ids to logits for a page.

use serde_json::{Map, Value, json};

use crate::influence::Projection;
use crate::pack;
use crate::way::{Part, Way};

/// The equations, with as many values as fit into `room` bytes: first the ends and the layer `first`, then the other
/// layers. The input of each layer is always included.
pub(super) fn packed(way: &Way, first: usize, room: &mut usize) -> Value {
    let of_x = |part: &Part| part.get("x").map_or(0, |x| pack::floats(&x.values.concat()).len());
    *room = room.saturating_sub(way.layers.iter().map(of_x).sum());
    let mut layers: Vec<Value> = vec![Value::Null; way.layers.len()];
    let embedding = part(&way.embedding, room);
    let head = part(&way.head, room);
    let others = (0..way.layers.len()).filter(|layer| *layer != first);
    for layer in std::iter::once(first).chain(others).filter(|layer| *layer < way.layers.len()) {
        layers[layer] = part(&way.layers[layer], room);
    }
    json!({ "embedding": embedding, "layers": layers, "head": head })
}

fn part(part: &Part, room: &mut usize) -> Value {
    let mut fits = |text: String, always: bool| {
        let enough = always || text.len() <= *room;
        *room -= if enough && !always { text.len() } else { 0 };
        enough.then_some(text)
    };
    let equations: Vec<Value> = part
        .equations
        .iter()
        .map(|equation| {
            // Queries and keys before rotation are stored with their heads.
            let by_head = equation.name.starts_with(['Q', 'K', 'V']);
            let values = (!by_head).then(|| pack::floats(&equation.values.concat()));
            json!({
                "name": equation.name,
                "formula": equation.formula,
                "width": equation.width,
                "kept": equation.values.first().map_or(0, Vec::len),
                "values": values.and_then(|text| fits(text, equation.name == "x")),
            })
        })
        .collect();
    let mut parameters = Map::new();
    for (name, parameter) in &part.parameters {
        if let Some(numbers) = fits(pack::floats(&parameter.numbers), false) {
            parameters.insert(name.clone(), json!({ "shape": parameter.shape, "numbers": numbers }));
        }
    }
    json!({ "equations": equations, "parameters": parameters })
}

/// The rows of the head's last matrix for the listed outputs.
pub(super) fn projection(projection: &Projection) -> Value {
    json!({
        "ids": projection.ids,
        "width": projection.width,
        "kept": projection.rows.first().map_or(0, Vec::len),
        "rows": pack::floats(&projection.rows.concat()),
        "bias": projection.bias.as_ref().map(|bias| pack::floats(bias)),
        "tied": projection.is_tied,
    })
}
