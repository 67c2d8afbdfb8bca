//! Matches the globs of `[adapter]` with the modules of a model.

use std::collections::{BTreeMap, BTreeSet};

use glob::Pattern;

use crate::adapter::{AdapterSection, AdapterSpec, ModuleSpec, TOKEN, Targets};
use crate::config::{Head, ModelConfig};
use crate::folder::stored_names;
use crate::layers::parameter_specs;
use crate::spec::Role;

/// The number of names that an error lists at most.
const N_NAMED: usize = 12;

/// The result of `[adapter]` for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The adapter.
    pub spec: AdapterSpec,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// A key of `[adapter]` that matches nothing usable, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("adapter.{key} {words}")]
pub struct Unknown {
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub words: String,
}

/// A module and its names, as the globs see it.
struct Module {
    /// Its parameter name in Vulpes.
    ours: String,
    /// Its name in the model's folder; several modules may be one there.
    theirs: String,
    role: Role,
    parameters: Vec<String>,
}

impl Module {
    /// Whether it can have a low-rank change.
    fn is_linear(&self) -> bool {
        self.role.is_block_matrix()
    }

    /// Whether a glob matches either name, in full or from a dot on.
    fn is_meant(&self, pattern: &Pattern) -> bool {
        let is_named = |name: &str| {
            pattern.matches(name) || name.match_indices('.').any(|(dot, _)| pattern.matches(&name[dot + 1..]))
        };
        is_named(&self.ours) || is_named(&self.theirs)
    }
}

/// Every module of a model, in forward order.
fn modules(config: &ModelConfig) -> Vec<Module> {
    let stored = stored_names(config);
    let module = |name: &str| name.rsplit_once('.').map_or(name, |(module, _)| module).to_owned();
    let mut modules: Vec<Module> = Vec::new();
    for spec in parameter_specs(config) {
        let ours = module(&spec.name);
        match modules.iter_mut().find(|module| module.ours == ours) {
            Some(module) => module.parameters.push(spec.name),
            None => {
                let theirs = stored.get(&spec.name).map_or_else(|| ours.clone(), |name| module(name));
                modules.push(Module { ours, theirs, role: spec.role, parameters: vec![spec.name] });
            }
        }
    }
    modules
}

impl AdapterSection {
    /// Selects every module of `config` that the section matches; those of `newly_initialized`, parameters that the model's folder
    /// lacks, are trained in full.
    ///
    /// # Errors
    /// Returns an error if a glob is invalid, matches no module, or matches only a part of what a model's folder stores
    /// as one tensor, or if a module is both adapted and trained in full.
    pub fn choose(&self, config: &ModelConfig, newly_initialized: &[String]) -> Result<Chosen, Unknown> {
        let modules = modules(config);
        let is_tied = config.tied_head && matches!(config.head, Head::NextToken | Head::MaskedToken);
        let mut spec = AdapterSpec { dropout: self.dropout, ..AdapterSpec::default() };
        let can_change =
            |module: &&Module| module.is_linear() || (module.ours == TOKEN && !self.dora && !is_tied);
        let meant = meant("targets", self.targets.patterns(), &modules, &can_change)?;
        for module in modules.iter().filter(|module| meant.contains(&module.ours)) {
            let joined: Vec<&Module> = modules.iter().filter(|one| one.theirs == module.theirs).collect();
            let left_out: Vec<&str> =
                joined.iter().filter(|one| !meant.contains(&one.ours)).map(|one| one.ours.as_str()).collect();
            if !left_out.is_empty() {
                let words = format!(
                    "matches {} without {}, which the model's folder stores as one tensor, {}: name all of them",
                    module.ours,
                    left_out.join(", "),
                    module.theirs
                );
                return Err(Unknown { key: "targets", words });
            }
            let own = ModuleSpec {
                first: joined.first().map_or(&module.ours, |first| &first.ours).clone(),
                rank: self.rank,
                alpha: self.alpha,
                rslora: self.rslora,
                dora: self.dora,
            };
            spec.modules.insert(module.ours.clone(), own);
        }
        let is_alone = |module: &&Module| !(is_tied && module.ours == TOKEN);
        let whole = self::meant("also_train", &self.also_train, &modules, &is_alone)?;
        if let Some(both) = whole.iter().find(|name| spec.modules.contains_key(*name)) {
            let words = format!("names {both}, as does adapter.targets: either adapt it or train it in full");
            return Err(Unknown { key: "also_train", words });
        }
        for module in &modules {
            if whole.contains(&module.ours)
                || module.parameters.iter().any(|name| newly_initialized.contains(name))
            {
                spec.whole.extend(module.parameters.iter().cloned());
            }
        }
        let mut notes = Vec::new();
        if spec.modules.contains_key(TOKEN) {
            notes.push(
                "adapter.targets matches the token embedding: its entire table is read at each step"
                    .to_owned(),
            );
        }
        Ok(Chosen { spec, notes })
    }
}

/// The modules that `patterns` match, out of those that `can`.
fn meant(
    key: &'static str,
    patterns: &[String],
    modules: &[Module],
    can: &dyn Fn(&&Module) -> bool,
) -> Result<BTreeSet<String>, Unknown> {
    let mut meant = BTreeSet::new();
    for pattern in patterns {
        if key == "targets" && pattern == Targets::ALL_LINEAR {
            meant.extend(modules.iter().filter(|one| one.is_linear()).map(|one| one.ours.clone()));
            continue;
        }
        let glob = Pattern::new(pattern).map_err(|error| {
            let words =
                format!("has {pattern:?}, which is not a glob: {} at character {}", error.msg, error.pos + 1);
            Unknown { key, words }
        })?;
        let named: Vec<&Module> = modules.iter().filter(|module| module.is_meant(&glob)).collect();
        let fit: Vec<String> = named.iter().copied().filter(can).map(|module| module.ours.clone()).collect();
        if fit.is_empty() {
            let why = match named.first() {
                Some(module) => format!(
                    "matches {}, which can't be {}{}",
                    module.ours,
                    if key == "targets" {
                        "adapted"
                    } else {
                        "trained separately: the head is the same table"
                    },
                    if key == "targets" { "; adapter.also_train trains a module in full" } else { "" }
                ),
                None => "matches no module".to_owned(),
            };
            return Err(Unknown {
                key,
                words: format!("has {pattern:?}, which {why}; there are {}", listed(modules, can)),
            });
        }
        meant.extend(fit);
    }
    Ok(meant)
}

/// The names of the modules that could be matched, shortened to their last parts.
fn listed(modules: &[Module], can: &dyn Fn(&&Module) -> bool) -> String {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for module in modules.iter().filter(can) {
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let within = match module.ours.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((_, rest)) => rest.to_owned(),
            None => module.ours.clone(),
        };
        names.entry(within).or_insert_with(|| last(&module.theirs));
    }
    let n_more = names.len().saturating_sub(N_NAMED);
    let words: Vec<String> = names
        .into_iter()
        .take(N_NAMED)
        .map(|(ours, theirs)| if ours.ends_with(&theirs) { ours } else { format!("{ours} ({theirs})") })
        .collect();
    let more = if n_more > 0 { format!(" and {n_more} more") } else { String::new() };
    format!("{}{more}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Family;
    use crate::section::ModelSection;

    fn choose(family: Family, targets: &[&str], also: &[&str]) -> Result<AdapterSpec, String> {
        let model = ModelSection { family: Some(family), n_layer: Some(2), ..ModelSection::default() };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let section = AdapterSection {
            targets: Targets::Many(words(targets)),
            also_train: words(also),
            ..AdapterSection::default()
        };
        let chosen = section.choose(&model.resolve(100, Head::NextToken), &[]);
        chosen.map(|chosen| chosen.spec).map_err(|error| error.to_string())
    }

    #[test]
    fn globs_match_either_name_of_a_module_in_full_or_from_a_dot_on() {
        let names = |spec: AdapterSpec| spec.modules.into_keys().collect::<Vec<_>>();
        let ours = names(choose(Family::Llama, &["query", "blocks.1.*.down"], &[]).unwrap());
        assert_eq!(
            ours,
            ["blocks.0.attention.query", "blocks.1.attention.query", "blocks.1.feed_forward.down"]
        );
        let theirs = choose(Family::Llama, &["q_proj", "model.layers.1.mlp.down_proj"], &[]).unwrap();
        assert_eq!(names(theirs), ours);
        assert_eq!(choose(Family::Llama, &["all-linear"], &[]).unwrap().modules.len(), 14);
    }

    #[test]
    fn modules_stored_as_one_tensor_share_their_a() {
        let spec = choose(Family::Gpt2, &["c_attn"], &["norm"]).unwrap();
        let first: BTreeSet<&str> = spec.modules.values().map(|module| module.first.as_str()).collect();
        assert_eq!(
            first.into_iter().collect::<Vec<_>>(),
            ["blocks.0.attention.query", "blocks.1.attention.query"]
        );
        assert!(spec.whole.contains("blocks.0.feed_forward.norm.bias") && spec.whole.contains("norm.weight"));
        let error = choose(Family::Gpt2, &["query"], &[]).unwrap_err();
        assert!(error.contains("stores as one tensor, transformer.h.0.attn.c_attn"), "{error}");
    }

    #[test]
    fn globs_that_match_nothing_are_refused_with_the_possible_names() {
        let error = choose(Family::Llama, &["q_projj"], &[]).unwrap_err();
        assert!(error.contains("adapter.targets has \"q_projj\", which matches no module"), "{error}");
        assert!(error.contains("attention.query (q_proj)"), "{error}");
        let error = choose(Family::Llama, &["norm"], &[]).unwrap_err();
        assert!(error.contains("adapter.also_train trains a module in full"), "{error}");
        let error = choose(Family::Llama, &["query"], &["query"]).unwrap_err();
        assert!(error.contains("either adapt it or train it in full"), "{error}");
        assert!(choose(Family::Llama, &["blocks.[.query"], &[]).unwrap_err().contains("is not a glob"));
    }
}
