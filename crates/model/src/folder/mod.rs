//! Model folders in transformers' format: `config.json` and `model.safetensors`, read and written.
//!
//! Loading: `config.json` → [`ModelConfig`] (families, layout) → its tensors, matched with those in the files (fit) →
//! values, widened to float32, split and transposed into our parameters (tensors, numbers) → [`Transformer`]. Saving
//! goes the same way back. Nothing is allocated or changed until everything fits.

mod adapter;
mod decoder;
mod error;
mod fit;
mod json;
mod layout;
mod narrow;
mod numbers;
mod resolve;
mod sentence;
mod source;
mod tensors;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};

pub use adapter::sources::{Sources, sources};
pub use adapter::write::{AdapterFiles, save_adapter};
pub use adapter::{adapter_spec, load_adapted, with_new_adapter};
pub(crate) use decoder::Packing;
pub use decoder::{LoadedDecoder, load_decoder, load_decoder_merged};
pub use error::{Error, Misfit};
pub use layout::Extra;
pub use resolve::{is_adapter, resolve};
pub use sentence::{Sentence, sentence_files};

use crate::adapter::BaseDtype;
use crate::config::{Head, ModelConfig};
use crate::families::{Folder, Stored};
use crate::layers::parameter_specs;
use crate::parameters::Parameters;
use crate::transformer::Transformer;
use layout::Described;
use source::Source;

/// The layouts that are read and written, as a table in Markdown.
pub fn layouts_as_markdown() -> String {
    crate::families::as_markdown()
}

/// A model that was read from a folder.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub transformer: Transformer,
    /// Its config.
    pub config: ModelConfig,
    /// Special tokens and labels.
    pub extra: Extra,
    /// What was ignored, or read differently from how it is stored: one sentence each, for the user.
    pub warnings: Vec<String>,
    /// Parameters that the folder lacks and that were newly initialized: those of a new head.
    pub newly_initialized: Vec<String>,
}

/// Options for reading a folder.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The device of the parameters.
    pub device: Device,
    /// The dtype to compute in; the default is float32, to which every stored type widens exactly.
    pub dtype: DType,
    /// The head to use instead of the folder's; its parameters are taken from the folder if they fit, else newly
    /// initialized.
    pub head: Option<Head>,
    /// The seed of a new head's parameters.
    pub seed: u64,
    /// The folder of an adapter to merge into the model.
    pub adapter: Option<PathBuf>,
    /// If set, matrices and tables are held in this type, except the parameters of these names: for frozen weights.
    pub narrow: Option<(BaseDtype, BTreeSet<String>)>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, head: None, seed: 0, adapter: None, narrow: None }
    }
}

/// Reads a model folder onto the CPU, in float32.
///
/// # Errors
/// Returns an error if `config.json` requires something that is not implemented, if the files are malformed, or if the
/// tensors don't match the config; each lists everything that is wrong.
pub fn load(dir: &Path) -> Result<Loaded, Error> {
    load_with(dir, &LoadOptions::default())
}

/// Reads a model folder with `options`; an adapter's folder is read as its base model with the adapter merged.
///
/// # Errors
/// As [`load`]; also if the requested head does not fit the model.
pub fn load_with(dir: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    if is_adapter(dir) || options.adapter.is_some() {
        let Sources { model, adapter } = sources(dir, options.adapter.as_deref())?;
        if let Some(adapter) = adapter {
            return adapter::load_merged(&model, &adapter, options);
        }
    }
    let Opened { store, fitted, extra, warnings, .. } = open(dir, options.head)?;
    let parameters = parameters(&store, &fitted, options)?;
    let transformer = Transformer::from_parameters(&fitted.config, Parameters::from_map(parameters))?;
    Ok(Loaded {
        transformer,
        config: fitted.config,
        extra,
        warnings,
        newly_initialized: fitted.newly_initialized,
    })
}

/// The parameters of an opened folder, those of a new head newly initialized.
fn parameters(
    store: &tensors::Store,
    fitted: &fit::Fit,
    options: &LoadOptions,
) -> Result<BTreeMap<String, Var>, Error> {
    let mut parameters = BTreeMap::new();
    for (stored, name) in &fitted.rows {
        let Some(entry) = store.entries().get(name) else { continue };
        let narrow = |(name, shape): &(String, Vec<usize>)| {
            let (dtype, but) = options.narrow.as_ref()?;
            (shape.len() == 2 && !but.contains(name)).then_some(*dtype)
        };
        if stored.parts.iter().all(|part| narrow(part).is_none()) {
            let parts = numbers::cut(stored, store.floats(entry));
            for (part, (name, shape)) in parts.into_iter().zip(&stored.parts) {
                parameters.insert(name.clone(), var(part, shape, options)?);
            }
            continue;
        }
        for (part, own) in stored.parts.iter().enumerate() {
            let source = Source { store, entry, stored, part };
            let dtype = narrow(own).unwrap_or_default();
            parameters.insert(own.0.clone(), narrow::read(&source, &own.1, dtype)?);
        }
    }
    for spec in
        parameter_specs(&fitted.config).iter().filter(|spec| fitted.newly_initialized.contains(&spec.name))
    {
        parameters.insert(spec.name.clone(), spec.draw(options.seed, options.dtype, &options.device)?);
    }
    Ok(parameters)
}

/// The contents of a model folder except its weights.
#[derive(Debug, Clone)]
pub struct Description {
    /// Its config.
    pub config: ModelConfig,
    /// Special tokens and labels.
    pub extra: Extra,
    /// As [`Loaded::warnings`].
    pub warnings: Vec<String>,
    /// The widest type in which the tensors are stored.
    pub dtype: DType,
}

/// Checks a model folder like [`load`], without reading its weights.
///
/// # Errors
/// As [`load`].
pub fn describe(dir: &Path) -> Result<Description, Error> {
    match is_adapter(dir) {
        true => describe_sources(&sources(dir, None)?),
        false => describe_sources(&dir.into()),
    }
}

/// The parameters of a model with this head that its folder lacks.
///
/// # Errors
/// As [`load`].
pub fn newly_initialized(dir: &Path, head: Head) -> Result<Vec<String>, Error> {
    Ok(open(dir, Some(head))?.fitted.newly_initialized)
}

/// As [`describe`], of a model's folder and that of an adapter.
///
/// # Errors
/// As [`load_with`].
pub fn describe_sources(sources: &Sources) -> Result<Description, Error> {
    if let Some(adapter) = &sources.adapter {
        return adapter::describe(&sources.model, adapter);
    }
    let dir = sources.model.as_path();
    let Opened { store, fitted, extra, warnings, .. } = open(dir, None)?;
    let dtype = store.dtype(fitted.rows.iter().map(|(_, name)| name.as_str()));
    Ok(Description { config: fitted.config, extra, warnings, dtype })
}

/// A folder whose tensors match its config.
struct Opened {
    layout: &'static Folder,
    has_pooler: bool,
    store: tensors::Store,
    fitted: fit::Fit,
    extra: Extra,
    warnings: Vec<String>,
}

fn open(dir: &Path, head: Option<Head>) -> Result<Opened, Error> {
    let config_path = dir.join("config.json");
    if !config_path.is_file() {
        // The same message as for a path that doesn't exist.
        resolve(dir)?;
    }
    let object = json::read_object(&config_path)?;
    let store = tensors::Store::open(dir);
    let has = |layout: &Folder, name: &str| {
        store.as_ref().is_ok_and(|store| {
            let prefix = fit::prefix(&layout.names, store);
            store.entries().contains_key(&name.replacen('*', prefix, 1))
        })
    };
    let Described { layout, mut config, mut extra, mut warnings } =
        layout::read(&config_path, &object, &has)?;
    // sentence-transformers reads the bare model, whatever head the folder names.
    extra.sentence = sentence::read(dir)?;
    let is_bare = matches!(config.head, Head::Hidden { .. });
    let has_pooler = has(layout, "*pooler.dense.weight");
    let bare = || Head::Hidden { pooler: has_pooler };
    let head = head.or_else(|| (extra.sentence.is_some() && !is_bare).then(bare));
    let store = store?;
    let new_head = head.filter(|head| *head != config.head);
    if let Some(head) = new_head {
        config.head = head;
        extra.labels.clear();
        extra.sentence = extra.sentence.filter(|_| matches!(head, Head::Hidden { .. }));
        let faults = config.faults();
        if !faults.is_empty() {
            let problems = faults.into_iter().map(|fault| fault.message).collect();
            return Err(Error::Config { path: config_path, problems });
        }
    }
    let mut fitted = fit::fit(dir, layout, config, new_head.is_some(), &store)?;
    warnings.append(&mut fitted.warnings);
    Ok(Opened { layout, has_pooler, store, fitted, extra, warnings })
}

/// The name of each parameter, with that of the tensor that holds it in folders written by [`save`]; several parameters
/// may be stored as one tensor.
pub fn stored_names(config: &ModelConfig) -> BTreeMap<String, String> {
    let layout = layout::of(config);
    let prefix = layout::written_prefix(layout, config);
    let parts = |stored: Stored| {
        let name = stored.name.replacen('*', prefix, 1);
        stored.parts.into_iter().map(move |(ours, _)| (ours, name.clone()))
    };
    layout.names.table(config).into_iter().flat_map(parts).collect()
}

/// The same model under the family whose transformers layout [`save`] writes: its own, or another that can express it;
/// `None` if transformers has no such class.
pub fn in_transformers(config: &ModelConfig) -> Option<ModelConfig> {
    let renamed = |family| ModelConfig { family, ..config.clone() };
    let others = crate::families::FAMILIES.iter().map(|family| family.preset().family);
    std::iter::once(config.family)
        .chain(others)
        .map(renamed)
        .find(|config| layout::of(config).model_type != crate::families::OWN.model_type)
}

/// A parameter with these values; float32 on the CPU is taken over without a copy.
pub(crate) fn var(floats: Vec<f32>, shape: &[usize], options: &LoadOptions) -> Result<Var, Error> {
    if options.device.is_cpu() && options.dtype == DType::F32 {
        return Ok(Var::from_vec(floats, shape, &Device::Cpu)?);
    }
    let tensor = Tensor::from_vec(floats, shape, &Device::Cpu)?.to_dtype(options.dtype)?;
    Ok(Var::from_tensor(&tensor.to_device(&options.device)?)?)
}

/// Writes `config.json`, `model.safetensors` and, for a model that predicts the next token, `generation_config.json`
/// into `dir`, which is created if missing.
///
/// The layout is that of the model's family in transformers; a model that transformers has no class for gets
/// `model_type = "vulpes"`. Tied tensors are stored once. Nothing is fsynced.
///
/// # Errors
/// Returns an error if a file can't be written.
pub fn save(dir: &Path, transformer: &Transformer, extra: &Extra) -> Result<(), Error> {
    let config = transformer.config();
    let layout = layout::of(config);
    let names = &layout.names;
    let prefix = layout::written_prefix(layout, config);

    let dtype = transformer.parameters().iter().next().map_or(DType::F32, |(_, var)| var.dtype());
    let (stored_dtype, config_dtype, width) = numbers::stored_dtype(dtype);
    let mut rows = Vec::new();
    for stored in names.table(config) {
        let mut file_names = vec![stored.name.replacen('*', prefix, 1)];
        if !config.tied_head {
            // An untied decoder has its own bias in addition to the one that it would otherwise be tied to.
            let twins = names.first.iter().filter(|(canonical, _)| *canonical == stored.name);
            file_names.extend(twins.map(|(_, twin)| twin.replacen('*', prefix, 1)));
        }
        let shape = stored.shape.clone();
        for name in file_names {
            let header = write::Header { name, dtype: (stored_dtype, width), shape: shape.clone() };
            rows.push((header, stored.clone()));
        }
    }
    rows.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let (headers, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();

    std::fs::create_dir_all(dir).map_err(Error::write(dir))?;
    write::write(&dir.join(tensors::WHOLE), &headers, &|i, out| {
        let parts: crate::Result<Vec<&Tensor>> = rows[i]
            .parts
            .iter()
            .map(|(name, _)| transformer.parameters().get(name).map(|var| var.as_tensor()))
            .collect();
        numbers::each_bytes(&rows[i], &parts?, out)
    })?;
    write_json(&dir.join("config.json"), &layout::write(layout, config, extra, config_dtype))?;
    if config.head == Head::NextToken {
        write_json(&dir.join("generation_config.json"), &layout::generation_config(extra))?;
    }
    for (name, text) in extra.sentence.iter().flat_map(|own| sentence_files(own, config.d_hidden())) {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        std::fs::write(&path, text).map_err(Error::write(&path))?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Error> {
    std::fs::write(path, format!("{value:#}\n")).map_err(Error::write(path))
}
