//! Checks that a config still describes the model whose weights a checkpoint holds.

use std::path::Path;

use toml::{Table, Value};
use vulpes_data::ObjectiveConfig;
use vulpes_model::folder::{self, Sources};
use vulpes_model::{Head, ModelConfig, ModelSection};

use crate::config::{RunConfig, head};
use crate::error::{Error, Result};

/// Keys of `[model]` that say nothing about existing weights: the family is a preset of the others, and the rest
/// affects training alone.
const NOT_OF_THE_WEIGHTS: &[&str] =
    &["family", "dropout", "init_std", "embedding_init", "head_init", "branch_init"];

/// `section` with everything that it implies written out, for comparison.
pub(crate) fn resolved(section: &ModelSection, objective: &ObjectiveConfig) -> ModelSection {
    let ModelSection { vocab_size, pad_id, .. } = *section;
    let all = ModelSection::from(&section.resolve(vocab_size.unwrap_or(1), head(objective, 2)));
    // If the config doesn't set the vocabulary's size and padding id, the tokenizer decides them.
    ModelSection { vocab_size, pad_id, ..all }
}

/// Where `wanted` differs from `found`, the model of the weights: `model.n_head: 4 → 2`.
fn differences(found: &ModelConfig, wanted: &ModelConfig) -> Vec<String> {
    let table = |config: &ModelConfig| Table::try_from(ModelSection::from(config)).unwrap_or_default();
    let (found_table, wanted_table) = (table(found), table(wanted));
    let mut keys: Vec<&String> = found_table.keys().chain(wanted_table.keys()).collect();
    keys.sort();
    keys.dedup();
    let words = |value: Option<&Value>| value.map_or("unset".to_owned(), Value::to_string);
    let mut differences: Vec<String> = keys
        .into_iter()
        .filter(|key| !NOT_OF_THE_WEIGHTS.contains(&key.as_str()))
        .filter(|key| found_table.get(*key) != wanted_table.get(*key))
        .map(|key| format!("model.{key}: {} → {}", words(found_table.get(key)), words(wanted_table.get(key))))
        .collect();
    // An unused pooler makes no difference.
    let both_bare = matches!((found.head, wanted.head), (Head::Hidden { .. }, Head::Hidden { .. }));
    if found.head != wanted.head && !both_bare {
        let before = objective_of(found.head);
        let after = objective_of(wanted.head);
        differences.push(if before == after {
            format!("the labels: {:?} → {:?}", found.head, wanted.head)
        } else {
            format!("objective.kind: {before:?} → {after:?}")
        });
    }
    differences
}

/// Checks that the folders of a checkpoint hold the weights of the model `wanted`.
///
/// # Errors
/// Returns [`Error::ConfigChanged`] with all differences.
pub(crate) fn require(sources: &Sources, wanted: &ModelConfig) -> Result<()> {
    let other = differences(&folder::describe_sources(sources)?.config, wanted);
    if other.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = other.iter().map(|line| format!("  {line}")).collect();
    let changes = format!("{}\nits weights were trained as that model: restore the config", lines.join("\n"));
    Err(Error::ConfigChanged { path: sources.adapter.clone().unwrap_or(sources.model.clone()), changes })
}

fn objective_of(head: Head) -> &'static str {
    match head {
        Head::NextToken => "next_token",
        Head::MaskedToken => "masked_token",
        Head::Classify { .. } => "classify",
        Head::Hidden { .. } => "contrastive",
    }
}

/// How the `config.toml` with `text` differs from the model folder `dir`; `None` if they agree.
pub(crate) fn fault_between(text: &str, dir: &Path) -> Option<String> {
    let config = match RunConfig::parse("config.toml", text, &[]) {
        Ok(config) => config,
        Err(faults) => return Some(faults.to_string()),
    };
    // A damaged folder is reported separately.
    let found = folder::describe(dir).ok()?.config;
    let n_labels = found.head.n_labels().unwrap_or(2);
    let mut wanted = config.model.resolve(found.vocab_size, head(&config.objective, n_labels));
    if config.model.pad_id.is_none() {
        wanted.pad_id = found.pad_id;
    }
    let differences = differences(&found, &wanted);
    (!differences.is_empty()).then(|| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        format!("describes another model than checkpoints/{name}: {}", differences.join("; "))
    })
}
