//! Rotary settings and layer types in `config.json`, in the spellings of transformers 4 and 5.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use crate::config::{LayerOverride, ModelConfig, RopeScaling, ScalingKind};

/// The rotary settings of a `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Angles {
    pub(super) theta: f64,
    pub(super) scaling: Option<RopeScaling>,
    /// The share of each head that is rotated, if it is set.
    pub(super) fraction: Option<f64>,
}

/// The rotary settings of full-attention layers, and what windowed layers override.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LayeredAngles {
    pub(super) theta: f64,
    pub(super) scaling: Option<RopeScaling>,
    local: LayerOverride,
}

/// The rotary settings: `rope_theta` with `rope_scaling` (transformers 4), or `rope_parameters` (5).
///
/// If both are present, `rope_scaling` takes precedence, and a `rope_theta` inside it over the outer one, as in
/// transformers. `theta` and `fraction` are the names of the outer keys, with their defaults.
pub(super) fn read_flat(
    fields: &mut Fields,
    context_len: usize,
    (theta_key, theta): (&str, f64),
    fraction_key: &str,
) -> Angles {
    let outer = Angles {
        theta: fields.positive(theta_key).unwrap_or(theta),
        scaling: None,
        fraction: fields.positive(fraction_key),
    };
    let filled = |key| fields.get(key).filter(|value| value.as_object().is_none_or(|map| !map.is_empty()));
    match (filled("rope_scaling"), filled("rope_parameters")) {
        (Some(value), _) => read_object(fields, "rope_scaling.", value, outer, context_len),
        (None, Some(value)) => read_object(fields, "rope_parameters.", value, outer, context_len),
        (None, None) => outer,
    }
}

/// One object of rotary settings; what it doesn't set is as in `outer`.
fn read_object(
    fields: &mut Fields,
    key: &'static str,
    value: &Value,
    outer: Angles,
    context_len: usize,
) -> Angles {
    let outer_original = fields.count("original_max_position_embeddings");
    let Some(object) = value.as_object() else {
        fields.complain(format!("{} = {value} is not an object", key.trim_end_matches('.')));
        return outer;
    };
    let mut rope = Fields::new(object, key);
    let theta = rope.positive("rope_theta").unwrap_or(outer.theta);
    let fraction = rope.positive("partial_rotary_factor").or(outer.fraction);
    let kind = rope.text("rope_type").or_else(|| rope.text("type"));
    let needed = |rope: &mut Fields, key: &str| {
        let number = rope.positive(key);
        if number.is_none() && rope.get(key).is_none() {
            rope.complain(format!("rope_type = {:?} needs {key}", kind.unwrap_or_default()));
        }
        number.unwrap_or(1.0)
    };
    let scaling = match kind {
        None | Some("default") => None,
        Some("linear") => Some(RopeScaling::linear(needed(&mut rope, "factor"))),
        Some("llama3") => Some(RopeScaling {
            kind: ScalingKind::Llama3,
            factor: needed(&mut rope, "factor"),
            low_freq_factor: needed(&mut rope, "low_freq_factor"),
            high_freq_factor: needed(&mut rope, "high_freq_factor"),
            original_context_len: outer_original
                .or(rope.count("original_max_position_embeddings"))
                .unwrap_or(context_len),
        }),
        Some(other) => {
            rope.complain(format!(
                "{key}rope_type = {other:?} is not implemented; \"default\", \"linear\" and \"llama3\" are"
            ));
            None
        }
    };
    fields.problems.append(&mut rope.problems);
    Angles { theta, scaling, fraction }
}

/// Adds a problem if only a part of each head is rotated, in a family that rotates entire heads.
pub(super) fn whole_heads(fields: &mut Fields, angles: Angles) {
    if let Some(part) = angles.fraction.filter(|part| *part != 1.0) {
        fields.complain(format!("partial_rotary_factor = {part} is not implemented for this family; 1 is"));
    }
}

/// An object of rotary settings in transformers 5's format.
pub(super) fn written(theta: f64, scaling: Option<RopeScaling>) -> Value {
    let mut object = written_scaling(scaling).unwrap_or_else(|| json!({"rope_type": "default"}));
    object["rope_theta"] = json!(theta);
    object
}

/// `rope_scaling` in transformers 4's format.
pub(super) fn written_scaling(scaling: Option<RopeScaling>) -> Option<Value> {
    let RopeScaling { kind, factor, low_freq_factor, high_freq_factor, original_context_len } = scaling?;
    Some(match kind {
        ScalingKind::Linear => json!({"rope_type": "linear", "factor": factor}),
        ScalingKind::Llama3 => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context_len,
        }),
    })
}

/// Whether each layer has a window: by `layer_types`, else by `rule`.
pub(super) fn layer_types(fields: &mut Fields, n_layer: usize, rule: impl Fn(usize) -> bool) -> Vec<bool> {
    // (A config with more layers than fit in memory is refused by its tensors.)
    let n_layer = n_layer.min(1 << 16);
    let Some(list) = fields.list("layer_types") else { return (0..n_layer).map(rule).collect() };
    if list.len() < n_layer {
        fields.complain(format!("layer_types has {} entries for {n_layer} layers", list.len()));
    }
    let mut windowed = |value: &Value| match value.as_str() {
        Some("sliding_attention") => true,
        Some("full_attention") => false,
        _ => {
            fields.complain(format!(
                "layer_types has {value}, which is not implemented; \"full_attention\" and \"sliding_attention\" are"
            ));
            false
        }
    };
    list.iter().take(n_layer).map(&mut windowed).collect()
}

/// The names of the layer types.
pub(super) fn written_types(config: &ModelConfig) -> Value {
    let name = |layer| match config.layer_kind(layer).window {
        Some(_) => "sliding_attention",
        None => "full_attention",
    };
    (0..config.n_layer).map(name).collect()
}

/// The window of the first layer that has one.
pub(super) fn written_window(config: &ModelConfig) -> Option<usize> {
    (0..config.n_layer).find_map(|layer| config.layer_kind(layer).window)
}

/// How a family with two rotary bases spells them.
pub(super) struct Layered {
    pub(super) full_key: &'static str,
    pub(super) full_theta: f64,
    pub(super) local_key: &'static str,
    pub(super) local_theta: f64,
    /// Whether `rope_scaling` also scales layers with a window.
    pub(super) scales_local: bool,
}

impl Layered {
    /// A pattern of `every` layers of which layer `full` has full attention and the others a window.
    pub(super) fn pattern(&self, every: usize, full: usize, window: usize) -> Vec<LayerOverride> {
        let local = LayerOverride {
            window: Some(window),
            rope_theta: Some(self.local_theta),
            ..LayerOverride::default()
        };
        (0..every).map(|layer| if layer == full { LayerOverride::default() } else { local }).collect()
    }

    /// Writes the layer types, their rotary settings and the window.
    pub(super) fn write(
        &self,
        config: &ModelConfig,
        object: &mut Map<String, Value>,
    ) -> Option<Option<usize>> {
        let local =
            (0..config.n_layer).map(|layer| config.layer_kind(layer)).find(|kind| kind.window.is_some());
        let (local_theta, local_scaling) = match local {
            Some(kind) => {
                let rope = kind.rope?;
                (rope.theta, rope.scaling)
            }
            None => (self.local_theta, config.rope_scaling.filter(|_| self.scales_local)),
        };
        object.insert("layer_types".into(), written_types(config));
        object.insert(self.full_key.into(), json!(config.rope_theta));
        object.insert(self.local_key.into(), json!(local_theta));
        object.insert("rope_scaling".into(), json!(written_scaling(config.rope_scaling)));
        let parameters = json!({
            "full_attention": written(config.rope_theta, config.rope_scaling),
            "sliding_attention": written(local_theta, local_scaling),
        });
        object.insert("rope_parameters".into(), parameters);
        Some(written_window(config))
    }
}

/// The rotary settings of both layer types: outer keys with `rope_scaling` (transformers 4), or an object per type in
/// `rope_parameters` (5).
pub(super) fn read_layered(fields: &mut Fields, layered: &Layered, context_len: usize) -> LayeredAngles {
    let outer = |theta: Option<f64>, silent: f64| Angles {
        theta: theta.unwrap_or(silent),
        scaling: None,
        fraction: None,
    };
    let mut full = outer(fields.positive(layered.full_key), layered.full_theta);
    let mut local = outer(fields.positive(layered.local_key), layered.local_theta);
    if let Some(parameters) = fields.get("rope_parameters") {
        for (name, key, angles) in [
            ("full_attention", "rope_parameters.full_attention.", &mut full),
            ("sliding_attention", "rope_parameters.sliding_attention.", &mut local),
        ] {
            if let Some(value) = parameters.get(name).filter(|value| !value.is_null()) {
                *angles = read_object(fields, key, value, *angles, context_len);
            }
        }
        let known = |key: &String| key == "full_attention" || key == "sliding_attention";
        if parameters.as_object().is_none_or(|object| !object.keys().all(known)) {
            fields.complain(
                "rope_parameters is not an object of \"full_attention\" and \"sliding_attention\"".into(),
            );
        }
    }
    if let Some(value) = fields.get("rope_scaling") {
        full = read_object(fields, "rope_scaling.", value, full, context_len);
        if layered.scales_local {
            local = read_object(fields, "rope_scaling.", value, local, context_len);
        }
    }
    whole_heads(fields, full);
    whole_heads(fields, local);
    if local.scaling.is_some() && local.scaling != full.scaling {
        fields.complain(
            "rope_parameters.sliding_attention is scaled differently from full_attention, which is not implemented"
                .into(),
        );
    }
    let own = LayerOverride {
        window: None,
        rope_theta: Some(local.theta),
        positions: None,
        rope_scaled: Some(local.scaling.is_some()),
    };
    LayeredAngles { theta: full.theta, scaling: full.scaling, local: own }
}

/// The overrides of each layer: those of type "window" get a window and rotary settings.
pub(super) fn fill_types(types: &[bool], window: usize, angles: &LayeredAngles) -> Vec<LayerOverride> {
    let own = LayerOverride { window: Some(window), ..angles.local };
    types.iter().map(|windowed| if *windowed { own } else { LayerOverride::default() }).collect()
}
