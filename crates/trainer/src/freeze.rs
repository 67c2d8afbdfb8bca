//! `train.freeze`: the parameters frozen by globs over their names.

use std::collections::BTreeSet;

use glob::Pattern;
use vulpes_model::folder::stored_names;
use vulpes_model::{ModelConfig, parameter_specs};

use crate::error::{Error, Result};

/// The number of names that an error lists.
const N_NAMED: usize = 8;

/// A glob over parameters' names: `*` matches any characters, `?` one, `[ab]` one of a set.
///
/// # Errors
/// Returns a description of what is wrong.
pub fn glob(pattern: &str) -> std::result::Result<Pattern, String> {
    Pattern::new(pattern).map_err(|error| format!("{} at character {}", error.msg, error.pos + 1))
}

/// The parameters of `model` that `patterns` freeze.
///
/// A pattern is matched against a parameter's name and its name in the model's folder, so that `blocks.0.*` and
/// `transformer.h.0.*` are equivalent. If a folder stores several parameters as one tensor, its name stands for all of
/// them.
///
/// # Errors
/// Returns [`Error::Freeze`] if a pattern matches no parameter, or nothing is left to train.
pub fn frozen(patterns: &[String], model: &ModelConfig) -> Result<BTreeSet<String>> {
    let stored = stored_names(model);
    let mut frozen = BTreeSet::new();
    let mut unused = Vec::new();
    for pattern in patterns {
        let matcher = glob(pattern).map_err(|message| {
            Error::Freeze(format!("has {pattern:?}, which is not a valid glob: {message}"))
        })?;
        let named = stored.iter().filter(|(ours, theirs)| matcher.matches(ours) || matcher.matches(theirs));
        let named: Vec<String> = named.map(|(ours, _)| ours.clone()).collect();
        if named.is_empty() {
            unused.push(format!("{pattern:?}"));
        }
        frozen.extend(named);
    }
    if !unused.is_empty() {
        let mut names: Vec<&str> = stored.keys().map(String::as_str).collect();
        let n_more = names.len().saturating_sub(N_NAMED);
        names.truncate(N_NAMED);
        let more = if n_more > 0 {
            format!(" and {n_more} more (--dry-run --json lists all)")
        } else {
            String::new()
        };
        return Err(Error::Freeze(format!(
            "matches no parameter with {}; there are {}{more}",
            unused.join(", "),
            names.join(", ")
        )));
    }
    if parameter_specs(model).iter().all(|spec| frozen.contains(&spec.name)) {
        return Err(Error::Freeze("leaves no parameter to train".to_owned()));
    }
    Ok(frozen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vulpes_model::config::Family;
    use vulpes_model::{Head, ModelSection};

    fn of(patterns: &[&str]) -> Result<BTreeSet<String>> {
        let section =
            ModelSection { family: Some(Family::Gpt2), n_layer: Some(12), ..ModelSection::default() };
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        frozen(&patterns, &section.resolve(100, Head::NextToken))
    }

    #[test]
    fn globs_match_either_name_of_a_parameter() {
        let embedding = of(&["embedding.*"]).unwrap();
        assert_eq!(
            embedding,
            BTreeSet::from(["embedding.position.weight", "embedding.token.weight"].map(str::to_owned))
        );
        assert_eq!(of(&["transformer.w[tp]e.weight"]).unwrap(), embedding);
        let attention = of(&["transformer.h.3.attn.c_attn.bias"]).unwrap();
        assert!(
            attention
                .iter()
                .eq(["key", "query", "value"].map(|name| format!("blocks.3.attention.{name}.bias")).iter())
        );
        assert_eq!(of(&["blocks.1.*"]).unwrap().len(), 16, "blocks 10 and 11 don't match");
        assert_eq!(of(&["blocks.?.*.norm.weight"]).unwrap().len(), 20);
        assert_eq!(of(&[]).unwrap().len(), 0);
    }

    #[test]
    fn unmatched_globs_and_fully_frozen_models_are_refused() {
        let error = of(&["embedding.*", "lm_head.weight", "nothing*"]).unwrap_err().to_string();
        assert!(error.contains("with \"lm_head.weight\", \"nothing*\"; there are blocks.0."), "{error}");
        assert!(of(&["*"]).unwrap_err().to_string().contains("no parameter to train"));
        assert!(of(&["blocks.[.weight"]).unwrap_err().to_string().contains("is not a valid glob"));
    }
}
