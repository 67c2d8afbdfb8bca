//! Adapter folders in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`, read and written.
//!
//! Reading: `adapter_config.json` (config) → tensors by name, matched with the base model's table of names (read) → an
//! [`AdapterSpec`] and its values → a [`Transformer`] with the adapter, or merged. Writing goes the same way back.

mod config;
mod key;
mod read;
pub(super) mod sources;
pub(super) mod write;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Var};

use super::error::Error;
use super::{LoadOptions, Loaded, Opened};
use crate::adapter::{AdapterSpec, ModuleSpec};
use crate::config::{Head, ModelConfig};
use crate::layers::adapted_specs;
use crate::parameters::Parameters;
use crate::transformer::Transformer;
use read::Saved;

use super::resolve::ADAPTER as CONFIG;
/// The file of its tensors.
const WEIGHTS: &str = "adapter_model.safetensors";
/// A classifier's labels, which the base model's config can't contain.
const LABELS: &str = "labels.json";

/// Reads a base model with an adapter applied to it, its parameters next to the base's, to continue training.
///
/// # Errors
/// As [`super::load`]; also if the adapter changes something that the base model lacks, or the base can't be trained
/// with it.
pub fn load_adapted(base: &Path, adapter: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    let loaded = assemble(base, adapter, options)?;
    if let Some(spec) = loaded.transformer.adapter() {
        let known = adapted_specs(&loaded.config, Some(spec));
        let carries = |name: &&String| known.iter().any(|known| known.name == ModuleSpec::b(name));
        if let Some(name) = spec.modules.keys().find(|name| !carries(name)) {
            let problem = format!("changes {name}, which can be merged but not trained further");
            return Err(Error::Json { path: adapter.join(CONFIG), problem });
        }
    }
    Ok(loaded)
}

/// As [`load_adapted`], with the adapter merged into the weights.
pub(super) fn load_merged(base: &Path, adapter: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    let loaded = assemble(base, adapter, options)?;
    let transformer = loaded.transformer.merged()?;
    // (A merged model can be trained like any other.)
    let config = transformer.config().clone();
    let transformer = Transformer::from_parameters(&config, transformer.parameters().clone())?;
    Ok(Loaded { config, transformer, ..loaded })
}

/// Describes a base model with an adapter, without reading the weights.
pub(super) fn describe(base: &Path, adapter: &Path) -> Result<super::Description, Error> {
    let (opened, saved) = open(base, adapter, None)?;
    let dtype = opened.store.dtype(opened.fitted.rows.iter().map(|(_, name)| name.as_str()));
    let mut config = opened.fitted.config;
    let changes_token = saved.spec.modules.contains_key(crate::adapter::TOKEN);
    config.tied_head &= !(saved.unties || changes_token);
    let warnings = opened.warnings.into_iter().chain(saved.warnings).collect();
    Ok(super::Description { config, extra: opened.extra, warnings, dtype })
}

fn assemble(base: &Path, adapter: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    let (opened, saved) = open(base, adapter, options.head)?;
    let Opened { store, fitted, extra, mut warnings, .. } = opened;
    let mut parameters = super::parameters(&store, &fitted, options)?;
    let mut config = fitted.config;
    if saved.unties {
        config.tied_head = false;
        let token = parameters.get("embedding.token.weight").cloned();
        parameters.extend(token.map(|token| ("head.weight".to_owned(), token)));
    }
    let newly_initialized =
        fitted.newly_initialized.into_iter().filter(|name| !saved.values.contains_key(name)).collect();
    for (name, (floats, shape)) in saved.values {
        parameters.insert(name, super::var(floats, &shape, options)?);
    }
    warnings.extend(saved.warnings);
    let transformer = Transformer::adapted(&config, saved.spec, Parameters::from_map(parameters))?;
    Ok(Loaded { transformer, config, extra, warnings, newly_initialized })
}

/// Opens the base model's folder, with the head that the adapter was made for, and the adapter's tensors.
fn open(base: &Path, adapter: &Path, head: Option<Head>) -> Result<(Opened, Saved), Error> {
    let settings = config::read(adapter)?;
    let store = super::tensors::Store::open_file(&adapter.join(WEIGHTS))?;
    let sentence = super::sentence::read(adapter)?;
    let mut opened = super::open(base, head)?;
    if head.is_none() && sentence.is_some() {
        let pooler = opened.has_pooler;
        opened = super::open(base, Some(Head::Hidden { pooler }))?;
    } else if head.is_none()
        && opened.fitted.config.head.n_labels().is_none()
        && let Some(n_labels) = read::n_labels(&store, opened.layout)
    {
        opened = super::open(base, Some(Head::Classify { n_labels }))?;
    }
    if sentence.is_some() {
        opened.extra.sentence = sentence;
    }
    let labels = labels(adapter)?;
    if opened.fitted.config.head.n_labels() == Some(labels.len()) {
        opened.extra.labels = labels;
    }
    let mut saved = read::read(adapter, &settings, &store, opened.layout, &opened.fitted.config)?;
    saved.spec.dropout = settings.dropout;
    Ok((opened, saved))
}

/// What an adapter changes in a base model with the requested head.
///
/// # Errors
/// As [`load_adapted`].
pub fn adapter_spec(base: &Path, adapter: &Path, head: Head) -> Result<AdapterSpec, Error> {
    Ok(open(base, adapter, Some(head))?.1.spec)
}

/// The labels stored with an adapter.
fn labels(adapter: &Path) -> Result<Vec<String>, Error> {
    let path = adapter.join(LABELS);
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let object = super::json::read_object(&path)?;
    let of = |n: usize| object.get("id2label")?.get(n.to_string())?.as_str().map(str::to_owned);
    Ok((0..).map_while(of).collect())
}

/// A model with a fresh adapter: `base`'s parameters, and those of the adapter drawn from `seed`; magnitudes are the
/// lengths of the weights' rows.
///
/// # Errors
/// Returns an error if the device has no room.
pub fn with_new_adapter(base: &Transformer, spec: AdapterSpec, seed: u64) -> Result<Transformer, Error> {
    let config: &ModelConfig = base.config();
    let mut parameters: BTreeMap<String, Var> =
        base.parameters().iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    // The base's tables may be held in fewer bits than the computation's dtype.
    let table = base.parameters().get("embedding.token.weight")?.dtype();
    let dtype = if matches!(table, DType::BF16 | DType::U8) { DType::F32 } else { table };
    for own in adapted_specs(config, Some(&spec)).iter().filter(|own| own.name.contains(".adapter.")) {
        let mut drawn = own.draw(seed, dtype, base.device())?;
        if let Some(module) = own.name.strip_suffix(".adapter.magnitude") {
            let weight = vulpes_ops::widened(&base.parameters().value(&format!("{module}.weight"))?, dtype)?;
            drawn = Var::from_tensor(&weight.sqr()?.sum(1)?.sqrt()?)?;
        }
        parameters.insert(own.name.clone(), drawn);
    }
    Ok(Transformer::adapted(config, spec, Parameters::from_map(parameters))?)
}
