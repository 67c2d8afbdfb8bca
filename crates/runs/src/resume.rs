//! What may differ between a run's config and the config that it is resumed with.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::run_folder::CONFIG;
use crate::same_model::resolved;

/// Keys (and entire sections) in which a resumed run may differ from its past: most of them don't affect the steps
/// already done, and those that do affect an update (`train.steps` through the schedule, `train.on_spike`,
/// `train.spike_factor`, `train.spike_after`) are settings that people resume a run to change.
const MAY_CHANGE: &[&str] = &[
    "train.steps",
    "train.threads",
    "train.recompute",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_last",
    "train.keep_best",
    "train.log_every",
    "train.patience",
    "train.until_loss",
    "train.budget_minutes",
    "train.prompts",
    "train.film",
    "train.probes",
    "train.on_full_disk",
    "train.on_spike",
    "train.spike_factor",
    "train.spike_after",
    "train.init_from",
    "train.adapter",
    "data.validation",
    "data.validation_rows",
    "data.cache",
    "sample",
];

/// Keys (and entire sections) that decide the rows and their order.
const DECIDE_ROWS: &[&str] =
    &["data", "objective", "train.seed", "train.shuffle", "train.max_len", "model.context_len"];

/// Keys (and entire sections) that decide shape or meaning of the weights: another value means another model.
const DECIDE_WEIGHTS: &[&str] = &["model", "data.tokenizer", "objective.kind"];

/// Exceptions, which affect training alone.
const BUT_NOT: &[&str] = &["model.dropout"];

/// What differs between a run and the config that it is resumed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    key: String,
    message: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Change {
    fn new(key: String, before: Option<&Value>, after: Option<&Value>) -> Self {
        let shown = |value: Option<&Value>| value.map_or("unset".to_owned(), Value::to_string);
        let message = format!("{key}: {} → {}", shown(before), shown(after));
        Self { key, message }
    }

    /// Whether it changes the meaning of the weights.
    fn decides_weights(&self) -> bool {
        is_among(&self.key, DECIDE_WEIGHTS) && !is_among(&self.key, BUT_NOT)
    }

    /// Whether it changes the rows.
    pub(crate) fn decides_rows(&self) -> bool {
        is_among(&self.key, DECIDE_ROWS)
    }
}

/// Whether `key` is one of `names`, or in a section that is.
fn is_among(key: &str, names: &[impl AsRef<str>]) -> bool {
    let is_in =
        |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    names.iter().any(|name| is_in(name.as_ref()))
}

/// Compares `config` with that of the run in `dir`; returns the permitted changes.
///
/// `explicit` are the keys set on the command line, which may always differ, except for those that decide the meaning
/// of the weights if the run `has_weights`.
///
/// # Errors
/// Returns [`Error::ConfigChanged`], which names all keys that may not differ.
pub(crate) fn changes(
    dir: &Path,
    config: &RunConfig,
    explicit: &[String],
    has_weights: bool,
) -> Result<Vec<Change>> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
    let unreadable = |reason: String| Error::Config { path: path.clone(), reason };
    let written: Table = text.parse().map_err(|error| unreadable(format!("is not valid TOML: {error}")))?;
    // If the run began without a padding id, the tokenizer decides it.
    let says_padding = |model: Option<&Value>| model.and_then(|model| model.get("pad_id")).is_some();
    let compares_padding = says_padding(written.get("model")) && config.model.pad_id.is_some();
    // A key missing in a run of an older version had its default.
    let filled = RunConfig::deserialize(written.clone()).ok().and_then(|mut before| {
        // A size that is left out is the family's default: the same model whether written or not.
        before.model = resolved(&before.model, &before.objective);
        before.model.pad_id = before.model.pad_id.filter(|_| compares_padding);
        Table::try_from(&before).ok()
    });
    let before = filled.unwrap_or(written);
    let mut after = config.clone();
    after.model = resolved(&config.model, &config.objective);
    after.model.pad_id = after.model.pad_id.filter(|_| compares_padding);
    let after = Table::try_from(&after).map_err(|error| unreadable(format!("can't be compared: {error}")))?;
    let mut differences = Vec::new();
    compare("", &Value::Table(before), &Value::Table(after), &mut differences);
    let lines = |refused: &[Change]| {
        refused.iter().map(|change| format!("  {change}")).collect::<Vec<_>>().join("\n")
    };
    let refuse = |changes: String| Error::ConfigChanged { path: dir.to_path_buf(), changes };
    let (other_model, differences): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|change| has_weights && change.decides_weights());
    if !other_model.is_empty() {
        return Err(refuse(format!(
            "{}\nits weights were trained as that model: restore the config, or start another run with --out",
            lines(&other_model)
        )));
    }
    // One size of the model implies others.
    let insists_on_model = explicit.iter().any(|key| key.starts_with("model."));
    let may = |change: &Change| {
        let follows = insists_on_model && change.decides_weights() && change.key.starts_with("model.");
        is_among(&change.key, MAY_CHANGE) || is_among(&change.key, explicit) || follows
    };
    let (allowed, refused): (Vec<_>, Vec<_>) = differences.into_iter().partition(may);
    if !refused.is_empty() {
        let keys = refused.iter().map(|change| format!("--set {}=…", change.key));
        let keys = keys.collect::<Vec<_>>().join(" ");
        return Err(refuse(format!("{}\nrestore it, or accept it with {keys}", lines(&refused))));
    }
    Ok(allowed)
}

pub(crate) fn compare(key: &str, before: &Value, after: &Value, differences: &mut Vec<Change>) {
    if let (Value::Table(before), Value::Table(after)) = (before, after) {
        let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        for name in keys {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            match (before.get(name), after.get(name)) {
                (Some(before), Some(after)) => compare(&key, before, after, differences),
                (before, after) => differences.push(Change::new(key, before, after)),
            }
        }
    } else if before != after {
        differences.push(Change::new(key.to_owned(), Some(before), Some(after)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> RunConfig {
        let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
        RunConfig::parse("t", "[model]\nfamily = \"fox\"\n[data]\ntrain = \"data/fox.txt\"\n", &overrides)
            .unwrap()
    }

    #[test]
    fn a_key_missing_in_an_older_run_has_its_default() {
        let dir = tempfile::tempdir().unwrap();
        let text = config(&[]).to_toml().unwrap();
        let older: String = text
            .lines()
            .filter(|line| !line.starts_with("shuffle"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_ne!(text.lines().count(), older.lines().count());
        std::fs::write(dir.path().join(CONFIG), older).unwrap();
        assert!(changes(dir.path(), &config(&[]), &[], true).unwrap().is_empty());
        assert!(changes(dir.path(), &config(&["train.shuffle=false"]), &[], true).is_err());
    }

    #[test]
    fn permitted_changes_are_reported_and_others_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config(&[]).to_toml().unwrap()).unwrap();
        assert_eq!(changes(dir.path(), &config(&[]), &[], true).unwrap(), []);
        let told = changes(dir.path(), &config(&["train.steps=7", "sample.temp=0"]), &[], true).unwrap();
        let messages: Vec<String> = told.iter().map(Change::to_string).collect();
        assert_eq!(messages, ["sample.temp: 0.8 → 0.0", "train.steps: 1000 → 7"]);
        assert!(!told.iter().any(Change::decides_rows));
        let changed = config(&["train.seed=7", "optimizer.lr=0.5"]);
        let error = changes(dir.path(), &changed, &[], true).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for wanted in ["train.seed: 1 → 7", "optimizer.lr: 0.001 → 0.5", "--set train.seed=…"] {
            assert!(error.to_string().contains(wanted), "{error}");
        }
        let explicit = ["train.seed", "optimizer.lr"].map(str::to_owned);
        let told = changes(dir.path(), &changed, &explicit, true).unwrap();
        assert_eq!(told.iter().map(Change::decides_rows).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn another_model_is_refused_once_there_are_weights() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config(&[]).to_toml().unwrap()).unwrap();
        for (set, key) in [
            ("model.d_model=8", "model.d_model"),
            ("model.n_head=2", "model.n_head"),
            ("model.window=3", "model.window"),
            ("model.family=\"gpt2\"", "model.family"),
            ("data.tokenizer.kind=\"char\"", "data.tokenizer.kind"),
        ] {
            let (changed, explicit) = (config(&[set]), [key.to_owned()]);
            let error = changes(dir.path(), &changed, &explicit, true).unwrap_err().to_string();
            assert!(error.contains(&format!("  {key}: ")) && error.contains("--out"), "{error}");
            assert!(changes(dir.path(), &changed, &explicit, false).is_ok(), "there were no weights: {set}");
        }
        // Written or left out, it is the same model; and dropout is for training alone.
        let width = config(&[]).model.resolve(1, vulpes_model::Head::NextToken).d_model;
        assert_eq!(
            changes(dir.path(), &config(&[&format!("model.d_model={width}")]), &[], true).unwrap(),
            []
        );
        let dropout = config(&["model.dropout=0.5"]);
        assert!(changes(dir.path(), &dropout, &[], true).is_err());
        assert_eq!(changes(dir.path(), &dropout, &["model.dropout".to_owned()], true).unwrap().len(), 1);
    }
}
