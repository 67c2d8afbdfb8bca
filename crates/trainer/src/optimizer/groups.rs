//! `optimizer.groups`: parameter groups with other learning rates and weight decays.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_model::ParameterSpec;

use crate::error::{Error, Result};
use crate::freeze::glob;

/// A parameter group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// Globs that match their names, or their names in the model's folder. The first group that matches a parameter
    /// applies.
    pub parameters: Vec<String>,
    /// The factor of the learning rate.
    #[serde(default = "one")]
    pub lr: f64,
    /// Their weight decay; absent = `optimizer.weight_decay`. Biases and norm scales decay only if it is set here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// How one parameter is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The factor of the learning rate.
    pub lr: f64,
    /// Its weight decay; `None` = that of its role.
    pub weight_decay: Option<f64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { lr: 1.0, weight_decay: None }
    }
}

/// The pace of each trained parameter that a group matches; `stored` has their names in the model's folder.
///
/// # Errors
/// Returns [`Error::Groups`] for an invalid glob, or one that matches no trained parameter.
pub fn paces(
    groups: &[ParameterGroup],
    stored: &BTreeMap<String, String>,
    trained: &[ParameterSpec],
) -> Result<BTreeMap<String, Pace>> {
    let mut paces = BTreeMap::new();
    for group in groups {
        for pattern in &group.parameters {
            let matcher = glob(pattern).map_err(|message| {
                Error::Groups(format!("has {pattern:?}, which is not a valid glob: {message}"))
            })?;
            let is_named = |spec: &&ParameterSpec| {
                matcher.matches(&spec.name)
                    || stored.get(&spec.name).is_some_and(|name| matcher.matches(name))
            };
            let named: Vec<&ParameterSpec> = trained.iter().filter(is_named).collect();
            if named.is_empty() {
                let some: Vec<&str> = trained.iter().take(6).map(|spec| spec.name.as_str()).collect();
                let message = format!(
                    "has {pattern:?}, which matches no trained parameter; there are {} and others \
                     (--dry-run --json lists the frozen ones)",
                    some.join(", ")
                );
                return Err(Error::Groups(message));
            }
            let pace = Pace { lr: group.lr, weight_decay: group.weight_decay };
            named.into_iter().for_each(|spec| {
                paces.entry(spec.name.clone()).or_insert(pace);
            });
        }
    }
    Ok(paces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vulpes_model::config::Family;
    use vulpes_model::folder::stored_names;
    use vulpes_model::{Head, ModelSection, parameter_specs};

    #[test]
    fn the_first_group_that_matches_a_parameter_applies() {
        let section =
            ModelSection { family: Some(Family::Gpt2), n_layer: Some(2), ..ModelSection::default() };
        let model = section.resolve(100, Head::NextToken);
        let group = |pattern: &str, lr: f64| ParameterGroup {
            parameters: vec![pattern.to_owned()],
            lr,
            weight_decay: None,
        };
        let specs = parameter_specs(&model);
        let found =
            paces(&[group("transformer.wte.*", 0.1), group("*.weight", 0.5)], &stored_names(&model), &specs)
                .unwrap();
        assert_eq!(found["embedding.token.weight"].lr, 0.1);
        assert_eq!(found["blocks.1.feed_forward.up.weight"].lr, 0.5);
        assert!(!found.contains_key("norm.bias"));
        let error = paces(&[group("nothing", 1.0)], &stored_names(&model), &specs).unwrap_err().to_string();
        assert!(
            error.contains("optimizer.groups has \"nothing\", which matches no trained parameter"),
            "{error}"
        );
    }
}
