//! The adapter of a plan: a new one as `[adapter]` describes it, or an existing one trained further.

use std::collections::BTreeSet;

use vulpes_model::adapter::{AdapterSection, AdapterSpec, BaseDtype, ModuleSpec, Targets};
use vulpes_model::folder;
use vulpes_model::{ModelConfig, parameter_specs};

use crate::base_model::BaseModel;
use crate::config::RunConfig;
use crate::error::{Error, Result};

/// The adapter that a run trains, and messages about it; `None` for a run without `[adapter]`. The section adopts the
/// settings of an existing adapter.
///
/// # Errors
/// Returns an error if `[adapter]` names something that the model lacks, or contradicts the existing adapter.
pub(super) fn decide(
    config: &mut RunConfig,
    base: Option<&BaseModel>,
    model: &ModelConfig,
) -> Result<Option<(AdapterSpec, Vec<String>)>> {
    let (Some(section), Some(base)) = (config.adapter.clone(), base) else { return Ok(None) };
    let sources = base.sources();
    let usage = |message: String| Error::Usage(message);
    let Some(adapter) = &sources.adapter else {
        let newly_initialized = folder::newly_initialized(&sources.model, model.head)?;
        let chosen = section.choose(model, &newly_initialized).map_err(|error| usage(error.to_string()))?;
        return Ok(Some((chosen.spec, chosen.notes)));
    };
    let found = folder::adapter_spec(&sources.model, adapter, model.head)?;
    let found = AdapterSpec { dropout: section.dropout, ..found };
    if !base.names_adapter {
        // A resumed run, with its own adapter.
        return Ok(Some((found, Vec::new())));
    }
    let taken = as_section(&found, &section);
    let differences = differences(config, &section, &taken, (&found, model))?;
    if !differences.is_empty() {
        return Err(usage(format!(
            "[adapter] contradicts the existing adapter {}: {}; leave those keys out",
            adapter.display(),
            differences.join("; ")
        )));
    }
    let message = format!(
        "training continues with the adapter of {}: its rank, alpha and modules are fixed",
        adapter.display()
    );
    config.adapter = Some(taken);
    Ok(Some((found, vec![message])))
}

/// The section that describes an adapter, as far as a section can.
fn as_section(found: &AdapterSpec, written: &AdapterSection) -> AdapterSection {
    let Some(one) = found.modules.values().next() else { return written.clone() };
    let whole =
        found.whole.iter().filter_map(|name| name.rsplit_once('.').map(|(module, _)| module.to_owned()));
    let whole: BTreeSet<String> = whole.filter(|module| !found.modules.contains_key(module)).collect();
    AdapterSection {
        rank: one.rank,
        alpha: one.alpha,
        rslora: one.rslora,
        dora: one.dora,
        targets: Targets::Many(found.modules.keys().cloned().collect()),
        also_train: whole.into_iter().collect(),
        ..written.clone()
    }
}

/// The keys set in `[adapter]` that differ from the existing adapter.
fn differences(
    config: &RunConfig,
    written: &AdapterSection,
    taken: &AdapterSection,
    (found, model): (&AdapterSpec, &ModelConfig),
) -> Result<Vec<String>> {
    let given = |key: &str| config.adapter_given.iter().any(|given| given == key);
    let any = |is: &dyn Fn(&ModuleSpec) -> bool| found.modules.values().any(is);
    let mut differences = Vec::new();
    let mut differs = |key: &str, agrees: bool, there: String| {
        if given(key) && !agrees {
            differences.push(format!("adapter.{key}, which is {there} there"));
        }
    };
    differs("rank", any(&|module| module.rank == written.rank), taken.rank.to_string());
    differs("alpha", any(&|module| module.alpha == written.alpha), taken.alpha.to_string());
    differs("rslora", taken.rslora == written.rslora, taken.rslora.to_string());
    differs("dora", taken.dora == written.dora, taken.dora.to_string());
    if given("targets") || given("also_train") {
        let chosen = written.choose(model, &[]).map_err(|error| Error::Usage(error.to_string()))?.spec;
        let same = chosen.modules.keys().eq(found.modules.keys());
        differs("targets", same, format!("{} modules", found.modules.len()));
        differs("also_train", chosen.whole.is_subset(&found.whole), format!("{:?}", taken.also_train));
    }
    Ok(differences)
}

/// The parameters of the base model that an adapter leaves frozen.
pub(super) fn kept(adapter: &AdapterSpec, model: &ModelConfig) -> impl Iterator<Item = String> {
    parameter_specs(model).into_iter().map(|spec| spec.name).filter(|name| !adapter.trains(name))
}

/// The dtype in which frozen weights are stored.
pub(super) fn base_dtype(config: &RunConfig) -> BaseDtype {
    config.adapter.as_ref().map_or(BaseDtype::Float32, |adapter| adapter.base_dtype)
}

/// That dtype, if it isn't the model's, and the parameters that are not stored in it.
pub(super) fn narrow(
    config: &RunConfig,
    adapter: Option<&AdapterSpec>,
) -> Option<(BaseDtype, BTreeSet<String>)> {
    let dtype = base_dtype(config);
    let adapter = adapter.filter(|_| dtype != BaseDtype::Float32);
    adapter.map(|adapter| (dtype, adapter.whole.clone()))
}
