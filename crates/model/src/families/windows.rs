//! The windows of layers in the spelling of Qwen and its relatives.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::rope::{layer_types, written_types, written_window};
use crate::config::{LayerOverride, ModelConfig};

/// `sliding_window` counts only with `use_sliding_window`, and then for the layers that `layer_types` names, or from
/// `max_window_layers` on.
pub(super) fn read_windows(fields: &mut Fields, n_layer: usize) -> Vec<LayerOverride> {
    let window = used_window(fields, Some(4096));
    let first = fields.whole("max_window_layers").unwrap_or(28);
    let types = layer_types(fields, n_layer, |layer| window.is_some() && layer >= first);
    with_windows(fields, &types, window)
}

/// The window that `use_sliding_window` enables.
pub(super) fn used_window(fields: &mut Fields, silent: Option<usize>) -> Option<usize> {
    let used = fields.flag("use_sliding_window").unwrap_or(false);
    let silent = silent.filter(|_| !fields.is_null("sliding_window"));
    let window = fields.get("sliding_window").and_then(|_| fields.count("sliding_window")).or(silent);
    window.filter(|_| used)
}

/// The overrides of each layer. If no window is enabled, a layer that should have one has none, as in transformers.
pub(super) fn with_windows(fields: &mut Fields, types: &[bool], window: Option<usize>) -> Vec<LayerOverride> {
    if window.is_none() && types.contains(&true) {
        fields.complain(
            "layer_types has windows, but sliding_window or use_sliding_window disables them".into(),
        );
    }
    let own =
        |windowed: &bool| LayerOverride { window: window.filter(|_| *windowed), ..LayerOverride::default() };
    types.iter().map(own).collect()
}

/// Writes the windows of layers.
pub(super) fn write_windows(
    config: &ModelConfig,
    mut object: Map<String, Value>,
) -> Option<Map<String, Value>> {
    let window = written_window(config);
    let first = (0..config.n_layer).find(|layer| config.layer_kind(*layer).window.is_some());
    object.insert("layer_types".into(), written_types(config));
    object.insert("max_window_layers".into(), json!(first.unwrap_or(config.n_layer)));
    object.insert("sliding_window".into(), json!(window));
    object.insert("use_sliding_window".into(), json!(window.is_some()));
    Some(object)
}
