//! Vulpes' own layout of model folders, which can express every model: `model_type = "vulpes"`.

use serde_json::{Map, Value, json};

use super::names::Names;
use super::words::read_labels;
use super::{About, Folder, Reading};
use crate::config::ModelConfig;

pub(super) static FOLDER: Folder = Folder {
    model_type: "vulpes",
    about: About {
        classes: &[],
        says: "everything that none of these can express: the fox's bare heads, other windows, …",
    },
    names: Names::new("", "blocks", &[], &[]),
    read,
    write,
};

/// The config under `model` in `config.json`; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    reading.labels = read_labels(&mut reading.fields);
    let fields = &mut reading.fields;
    let Some(model) = fields.get("model") else {
        fields.complain("has no \"model\", the config of a vulpes model".into());
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
fn write(config: &ModelConfig) -> Option<Map<String, Value>> {
    let object = json!({"architectures": ["Transformer"], "model_type": "vulpes", "model": config});
    object.as_object().cloned()
}
