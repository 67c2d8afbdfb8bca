//! Matches a config with the tensors of a folder: which tensor feeds which parameters, and every difference.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{Error, Misfit};
use super::tensors::Store;
use crate::config::{Head, ModelConfig};
use crate::families::{Folder, Names, Stored};

/// The source of every parameter.
pub(super) struct Fit {
    /// The config; its head may have been untied (see [`untie`]).
    pub(super) config: ModelConfig,
    /// Tensors to read: their contents, and their names in the folder.
    pub(super) rows: Vec<(Stored, String)>,
    /// Parameters of a new head, which the folder lacks.
    pub(super) newly_initialized: Vec<String>,
    /// Differences between the model as stored and as read, and ignored tensors.
    pub(super) warnings: Vec<String>,
}

/// The prefix of the folder's names: the layout's, or empty in files of the bare model.
pub(super) fn prefix(names: &Names, store: &Store) -> &'static str {
    let prefixes = std::iter::once(&names.prefix).chain(names.other_prefixes);
    let is_used = |prefix: &&&'static str| store.entries().keys().any(|name| name.starts_with(**prefix));
    prefixes.copied().find(|prefix| is_used(&prefix)).unwrap_or_default()
}

/// Fits `config` to the tensors of `store`, both of the folder `dir`.
///
/// With `new_head` the config's head is not the folder's: its parameters may be missing, and the folder's own head is
/// ignored.
///
/// # Errors
/// Returns [`Error::Misfit`] with every difference, or an error if the config has more layers than the folder tensors.
pub(super) fn fit(
    dir: &Path,
    layout: &Folder,
    mut config: ModelConfig,
    new_head: bool,
    store: &Store,
) -> Result<Fit, Error> {
    let n_tensors = store.entries().len();
    if config.n_layer > n_tensors {
        // A table of names for this many layers might not fit in memory.
        let problem = format!("has {} layers, but the folder holds {n_tensors} tensors", config.n_layer);
        return Err(Error::Config { path: dir.join("config.json"), problems: vec![problem] });
    }
    let names = &layout.names;
    let prefix = prefix(names, store);
    let full = |name: &str| name.replacen('*', prefix, 1);
    let mut warnings = Vec::new();
    let head_name = names.of("head.weight");
    if untie(&mut config, store, &full(&names.of("embedding.token.weight")), &full(&head_name)) {
        warnings.push(format!(
            "{} and the token embedding are stored separately and differ: the head is not tied, contrary to config.json",
            full(&head_name)
        ));
    }

    let mut fit = Fit { config, rows: Vec::new(), newly_initialized: Vec::new(), warnings };
    let mut misfit = Misfit::default();
    let mut used = BTreeSet::new();
    for stored in names.table(&fit.config) {
        let candidates = candidates(names, &stored.name, &fit.config, &head_name, &full);
        used.extend(candidates.iter().cloned());
        let of_new_head = new_head && stored.parts.iter().all(|(name, _)| name.starts_with("head."));
        let found = candidates.iter().find_map(|name| store.entries().get_key_value(name));
        match found {
            Some((_, entry)) if entry.shape != stored.shape && of_new_head => {
                fit.newly_initialized.extend(stored.parts.into_iter().map(|(name, _)| name));
            }
            Some((name, entry)) => {
                if entry.shape != stored.shape {
                    misfit.wrong_shape.push((name.clone(), entry.shape.clone(), stored.shape.clone()));
                }
                if !entry.is_float() {
                    misfit.wrong_dtype.push((name.clone(), format!("{:?}", entry.dtype)));
                }
                fit.rows.push((stored, name.clone()));
            }
            None if of_new_head => {
                fit.newly_initialized.extend(stored.parts.into_iter().map(|(name, _)| name))
            }
            None => misfit.missing.push(candidates.last().cloned().unwrap_or_default()),
        }
    }
    let mut aside = Vec::new();
    for name in store.entries().keys().filter(|name| !used.contains(*name)) {
        let begins = |start: &&&str| name.starts_with(&full(start));
        if names.stale.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let of_a_head = names.other_heads.iter().any(|start| begins(&start)) || *name == full(&head_name);
        if of_a_head || (new_head && name.starts_with("head.")) {
            aside.push(name.as_str());
        } else {
            misfit.unexpected.push(name.clone());
        }
    }
    if !misfit.is_empty() {
        return Err(Error::Misfit { path: dir.to_path_buf(), misfit });
    }
    if !aside.is_empty() {
        fit.warnings.push(format!("ignored tensors of another head: {}", aside.join(", ")));
    }
    Ok(fit)
}

/// The names under which a tensor may be stored, in order; the last is the one to report if none exists.
fn candidates(
    names: &Names,
    canonical: &str,
    config: &ModelConfig,
    head_name: &str,
    full: &impl Fn(&str) -> String,
) -> Vec<String> {
    let mut candidates: Vec<String> =
        names.first.iter().filter(|(name, _)| *name == canonical).map(|(_, first)| full(first)).collect();
    for (new, old) in names.endings {
        candidates.extend(canonical.strip_suffix(new).map(|start| full(&format!("{start}{old}"))));
    }
    // A tied tensor may have been stored under the head's name only.
    if canonical == names.of("embedding.token.weight") && reads_tied(config) {
        candidates.push(full(head_name));
        candidates.insert(0, full(canonical));
    }
    candidates.push(full(canonical));
    candidates
}

/// Whether the head projects with the token embedding.
fn reads_tied(config: &ModelConfig) -> bool {
    config.tied_head && matches!(config.head, Head::NextToken | Head::MaskedToken)
}

/// Unties the head if the folder has another tensor for it than for the embedding, like transformers.
fn untie(config: &mut ModelConfig, store: &Store, embedding: &str, head: &str) -> bool {
    let (Some(embedding), Some(head)) = (store.entries().get(embedding), store.entries().get(head)) else {
        return false;
    };
    if !reads_tied(config) || store.same(embedding, head) {
        return false;
    }
    config.tied_head = false;
    true
}
