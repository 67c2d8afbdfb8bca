//! Vulpes' own layout: `model_type = "vulpes"`, the model's config as it is, and our names for the tensors.

use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::folder::json::Fields;

/// What `config.json` says under `model`; complaints go to `fields`.
pub(super) fn read(fields: &mut Fields) -> Option<ModelConfig> {
    let Some(model) = fields.get("model") else {
        fields.complain("has no \"model\", the description of a vulpes model".into());
        return None;
    };
    match serde_json::from_value(model.clone()) {
        Ok(config) => Some(config),
        Err(error) => {
            fields.complain(format!("model: {error}"));
            None
        }
    }
}

/// The `config.json` of any model.
pub(super) fn write(config: &ModelConfig) -> Map<String, Value> {
    let object = json!({"architectures": ["Transformer"], "model_type": "vulpes", "model": config});
    object.as_object().cloned().unwrap_or_default()
}
