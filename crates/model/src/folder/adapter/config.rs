//! Reads `adapter_config.json`: its settings, and what in it can't be read.

use std::path::Path;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::super::error::Error;
use super::super::json;
use super::CONFIG;

/// The settings of an adapter that its tensors don't show.
pub(super) struct Settings {
    /// The default numerator of the scale.
    alpha: f64,
    /// Paths of modules with a different numerator; the first match applies.
    alphas: Vec<(Regex, f64)>,
    pub(super) rslora: bool,
    pub(super) dropout: f64,
}

impl Settings {
    /// The numerator of the scale for the module at `path`.
    pub(super) fn alpha(&self, path: &str) -> f64 {
        let own = self.alphas.iter().find(|(pattern, _)| pattern.is_match(path).unwrap_or(false));
        own.map_or(self.alpha, |(_, alpha)| *alpha)
    }
}

/// Keys of computations that are not implemented, unless they are null, false or empty.
const UNREAD: &[&str] = &[
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
];

/// Initializations that also change the base model's weights, without which the adapter is useless.
const CHANGE_BASE: &[&str] = &["pissa", "olora", "corda", "loftq"];

/// Reads an adapter's config.
///
/// Unknown keys are ignored, as in PEFT.
///
/// # Errors
/// Returns an error that lists all that is not implemented or contradictory.
pub(super) fn read(dir: &Path) -> Result<Settings, Error> {
    let path = dir.join(CONFIG);
    let object = json::read_object(&path)?;
    let mut problems = Vec::new();
    match object.get("peft_type").and_then(Value::as_str) {
        Some("LORA") | None => {}
        Some(other) => problems.push(format!("peft_type = {other:?} is not implemented; \"LORA\" is")),
    }
    for key in UNREAD.iter().filter(|key| object.get(**key).is_some_and(is_on)) {
        problems.push(format!("{key} = {} is not implemented", object[*key]));
    }
    let begun = object.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    if CHANGE_BASE.iter().any(|word| begun.starts_with(word)) {
        problems.push(format!(
            "init_lora_weights = {begun:?} changes the base model's weights as well; save the adapter for the base as it was \
             (PEFT: path_initial_model_for_weight_conversion)"
        ));
    }
    let number = |key: &str, default: f64| match object.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| format!("{key} = {value} is not a number")),
    };
    let (alpha, dropout) = (number("lora_alpha", 8.0), number("lora_dropout", 0.0));
    let mut alphas = Vec::new();
    if let Some(Value::Object(patterns)) = object.get("alpha_pattern") {
        for (key, value) in patterns {
            // A key matches the end of a path, or all of it.
            match (Regex::new(&format!("^(?:(?:.*\\.)?(?:{key})$)")), value.as_f64()) {
                (Ok(pattern), Some(alpha)) => alphas.push((pattern, alpha)),
                (Err(error), _) => {
                    problems.push(format!("alpha_pattern has {key:?}, which is not a pattern: {error}"))
                }
                (_, None) => problems.push(format!("alpha_pattern[{key:?}] = {value} is not a number")),
            }
        }
    }
    let flag = |key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(false);
    match (alpha, dropout, problems.is_empty()) {
        (Ok(alpha), Ok(dropout), true) => {
            Ok(Settings { alpha, alphas, rslora: flag("use_rslora"), dropout: dropout.clamp(0.0, 0.999) })
        }
        (alpha, dropout, _) => {
            problems.extend([alpha.err(), dropout.err()].into_iter().flatten());
            Err(Error::Config { path, problems })
        }
    }
}

/// The base model that an adapter names.
///
/// # Errors
/// Returns an error if its config can't be read.
pub(super) fn base_name(dir: &Path) -> Result<Option<String>, Error> {
    let object: Map<String, Value> = json::read_object(&dir.join(CONFIG))?;
    let name = object.get("base_model_name_or_path").and_then(Value::as_str);
    Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
}

/// Whether a value means more than "off".
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, Error> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), text).unwrap();
        read(dir.path())
    }

    #[test]
    fn the_first_pattern_that_matches_the_end_of_a_path_applies() {
        let found = settings(
            r#"{"lora_alpha": 8, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 3, "layers\\.\\d\\.mlp\\.up_proj": 20,
                "proj": 5}, "lora_dropout": 0.05}"#,
        )
        .unwrap();
        assert_eq!(found.alpha("model.layers.0.self_attn.q_proj"), 3.0);
        assert_eq!(found.alpha("model.layers.1.self_attn.q_proj"), 8.0, "proj is no ending after a dot");
        assert_eq!(found.alpha("model.layers.1.mlp.up_proj"), 20.0);
        assert_eq!((found.dropout, found.rslora), (0.05, false));
    }

    #[test]
    fn keys_that_change_the_result_are_refused_and_unknown_keys_are_not() {
        assert!(settings(r#"{"some_future_flag": {"a": [1]}, "lora_bias": false}"#).is_ok());
        for (text, wanted) in [
            (r#"{"peft_type": "IA3"}"#, "peft_type = \"IA3\""),
            (r#"{"lora_bias": true}"#, "lora_bias = true"),
            (r#"{"layer_replication": [[0, 1]]}"#, "layer_replication"),
            (r#"{"init_lora_weights": "pissa_niter_16"}"#, "changes the base model's weights"),
            (r#"{"alpha_pattern": {"(": 1}}"#, "not a pattern"),
            (r#"{"lora_alpha": "x"}"#, "is not a number"),
        ] {
            let error = settings(text).err().unwrap().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
