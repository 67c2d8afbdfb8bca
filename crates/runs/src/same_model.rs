//! Whether a config still describes the model whose weights a checkpoint holds.

use std::path::Path;

use toml::{Table, Value};
use vulpes_data::ObjectiveConfig;
use vulpes_model::{Head, ModelConfig, ModelSection, folder};

use crate::config::{RunConfig, head};
use crate::error::{Error, Result};

/// Keys of `[model]` that say nothing about the weights that there are: the family is a name for the others, and
/// the rest is for training alone.
const NOT_OF_THE_WEIGHTS: &[&str] = &["family", "dropout", "init_std"];

/// The section that says all of what `section` only implies, so that two sections can be compared.
pub(crate) fn resolved(section: &ModelSection, objective: &ObjectiveConfig) -> ModelSection {
    let ModelSection { vocab_size, pad_id, .. } = *section;
    let all = ModelSection::from(&section.resolve(vocab_size.unwrap_or(1), head(objective, 2)));
    // The vocabulary's size and its padding are the tokenizer's to say where the config doesn't.
    ModelSection { vocab_size, pad_id, ..all }
}

/// What `wanted` says otherwise than `found`, the model of the weights: `model.n_head: 4 → 2`.
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
    // A pooler that nothing reads is the folder's to have.
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

/// Makes sure that the checkpoint `dir` holds the weights of the model `wanted`.
///
/// # Errors
/// [`Error::ConfigChanged`] with all that differs.
pub(crate) fn require(dir: &Path, wanted: &ModelConfig) -> Result<()> {
    let other = differences(&folder::describe(dir)?.config, wanted);
    if other.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = other.iter().map(|line| format!("  {line}")).collect();
    let changes = format!("{}\nits weights were trained as that model: put it back", lines.join("\n"));
    Err(Error::ConfigChanged { path: dir.to_path_buf(), changes })
}

fn objective_of(head: Head) -> &'static str {
    match head {
        Head::NextToken => "next_token",
        Head::MaskedToken => "masked_token",
        Head::Classify { .. } => "classify",
        Head::Hidden { .. } => "contrastive",
    }
}

/// What the `config.toml` with `text` says otherwise than the model folder `dir`; `None` where they agree.
pub(crate) fn fault_between(text: &str, dir: &Path) -> Option<String> {
    let config = match RunConfig::parse("config.toml", text, &[]) {
        Ok(config) => config,
        Err(faults) => return Some(faults.to_string()),
    };
    // A damaged folder is a fault of its own.
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
