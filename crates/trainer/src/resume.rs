//! What may differ between a run's config and the config that it is resumed with.

use std::path::Path;

use toml::{Table, Value};

use crate::config::RunConfig;
use crate::run_folder::CONFIG;
use crate::{Error, Result};

/// Keys (and whole sections) that don't touch what the steps compute.
const MAY_CHANGE: &[&str] = &[
    "train.steps",
    "train.threads",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_last",
    "train.keep_best",
    "train.log_every",
    "train.film",
    "train.probes",
    "train.on_full_disk",
    "train.on_spike",
    "train.spike_factor",
    "train.spike_after",
    "train.init_from",
    "data.validation",
    "data.validation_rows",
    "data.cache",
    "sample",
];

/// Compares `config` with that of the run in `dir`; what differs and may, in words.
///
/// `explicit` are the keys that the command line sets, which may always differ.
///
/// # Errors
/// [`Error::ConfigChanged`], naming all that may not differ.
pub(crate) fn changes(dir: &Path, config: &RunConfig, explicit: &[String]) -> Result<Vec<String>> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| Error::io("read", &path, source))?;
    let unreadable = |reason: String| Error::Config { path: path.clone(), reason };
    let before: Table = text.parse().map_err(|error| unreadable(format!("is not valid TOML: {error}")))?;
    let after = Table::try_from(config).map_err(|error| unreadable(format!("can't be compared: {error}")))?;
    let mut differences = Vec::new();
    compare("", &Value::Table(before), &Value::Table(after), &mut differences);
    let may = |key: &str| {
        let names =
            |name: &str| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        MAY_CHANGE.iter().any(|name| names(name)) || explicit.iter().any(|name| names(name))
    };
    let (allowed, refused): (Vec<_>, Vec<_>) = differences.into_iter().partition(|(key, _)| may(key));
    if !refused.is_empty() {
        let lines: Vec<String> = refused.iter().map(|(_, words)| format!("  {words}")).collect();
        let keys = refused.iter().map(|(key, _)| format!("--set {key}=…")).collect::<Vec<_>>().join(" ");
        let changes = format!("{}\nput it back, or insist with {keys}", lines.join("\n"));
        return Err(Error::ConfigChanged { path: dir.to_path_buf(), changes });
    }
    Ok(allowed.into_iter().map(|(_, words)| words).collect())
}

fn compare(path: &str, before: &Value, after: &Value, differences: &mut Vec<(String, String)>) {
    if let (Value::Table(before), Value::Table(after)) = (before, after) {
        let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (before.get(key), after.get(key)) {
                (Some(before), Some(after)) => compare(&path, before, after, differences),
                (before, after) => {
                    let words = |value: Option<&Value>| value.map_or("unset".to_owned(), Value::to_string);
                    differences.push((path.clone(), format!("{path}: {} → {}", words(before), words(after))));
                }
            }
        }
    } else if before != after {
        differences.push((path.to_owned(), format!("{path}: {before} → {after}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> RunConfig {
        let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
        RunConfig::parse(
            "t",
            "[model]\nfamily = \"fox\"\n[data]\ntrain = \"data/fox.txt\"\n",
            &overrides,
            false,
        )
        .unwrap()
    }

    #[test]
    fn what_may_change_is_told_and_what_may_not_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config(&[]).to_toml().unwrap()).unwrap();
        assert_eq!(changes(dir.path(), &config(&[]), &[]).unwrap(), Vec::<String>::new());
        let told = changes(dir.path(), &config(&["train.steps=7", "sample.temp=0"]), &[]).unwrap();
        assert_eq!(
            told,
            ["sample.temp: 0.8 → 0", "train.steps: 1000 → 7"].map(|s| s.replace("→ 0", "→ 0.0"))
        );
        let changed = config(&["train.seed=7", "model.d_model=8", "optimizer.lr=0.5"]);
        let error = changes(dir.path(), &changed, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for wanted in ["train.seed: 1 → 7", "model.d_model: unset → 8", "optimizer.lr: 0.001 → 0.5"] {
            assert!(error.to_string().contains(wanted), "{error}");
        }
        let explicit = ["train.seed", "model.d_model", "optimizer.lr"].map(str::to_owned);
        assert_eq!(changes(dir.path(), &changed, &explicit).unwrap().len(), 3);
    }
}
