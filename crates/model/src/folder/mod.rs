//! Model folders as the world has them: `config.json` beside `model.safetensors`, read and written.
//!
//! Load: `config.json` → [`ModelConfig`] (families, layout) → the tensors that it wants, fitted to those that the files hold
//! (fit) → numbers, widened to float32, cut and transposed into our parameters (tensors, numbers) → [`Transformer`].
//! Save: the same way back. Until everything fits, nothing is allocated and nothing is changed.

mod error;
mod fit;
mod json;
mod layout;
mod numbers;
mod resolve;
mod sentence;
mod tensors;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};

pub use error::{Error, Misfit};
pub use layout::Extra;
pub use resolve::resolve;
pub use sentence::{Sentence, sentence_files};

use crate::config::{Head, ModelConfig};
use crate::families::{Folder, Stored};
use crate::layers::parameter_specs;
use crate::parameters::Parameters;
use crate::transformer::Transformer;
use layout::Described;

/// The layouts that are read and written, as a table in Markdown.
pub fn layouts_as_markdown() -> String {
    crate::families::as_markdown()
}

/// A model that was read from a folder.
#[derive(Debug)]
pub struct Loaded {
    /// The model.
    pub transformer: Transformer,
    /// What it is made of.
    pub config: ModelConfig,
    /// Special tokens and labels.
    pub extra: Extra,
    /// What was left aside, or read otherwise than the folder says: one sentence each, for a person.
    pub warnings: Vec<String>,
    /// Parameters that the folder doesn't have and that were drawn anew: those of a new head.
    pub fresh: Vec<String>,
}

/// How a folder is to be read.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where the parameters go.
    pub device: Device,
    /// The type that they are computed in; the default is float32, to which every stored type widens exactly.
    pub dtype: DType,
    /// The head that is wanted instead of the folder's own; its parameters are taken from the folder where they fit,
    /// else drawn anew.
    pub head: Option<Head>,
    /// Keys the draws for a new head.
    pub seed: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Cpu, dtype: DType::F32, head: None, seed: 0 }
    }
}

/// Reads a model folder onto the CPU, in float32.
///
/// # Errors
/// If `config.json` asks for something that is not implemented, if the files are malformed, or if the tensors are not
/// those that the config describes; each names everything that is wrong.
pub fn load(dir: &Path) -> Result<Loaded, Error> {
    load_with(dir, &LoadOptions::default())
}

/// Reads a model folder as `options` say.
///
/// # Errors
/// As [`load`], and where the wanted head does not go with the model.
pub fn load_with(dir: &Path, options: &LoadOptions) -> Result<Loaded, Error> {
    let Opened { store, fitted, extra, warnings } = open(dir, options.head)?;
    let mut parameters = BTreeMap::new();
    for (stored, name) in &fitted.rows {
        let Some(entry) = store.entries().get(name) else { continue };
        let parts = numbers::cut(stored, store.floats(entry));
        for (part, (name, shape)) in parts.into_iter().zip(&stored.parts) {
            parameters.insert(name.clone(), var(part, shape, options)?);
        }
    }
    for spec in parameter_specs(&fitted.config).iter().filter(|spec| fitted.fresh.contains(&spec.name)) {
        parameters.insert(spec.name.clone(), spec.draw(options.seed, options.dtype, &options.device)?);
    }
    let transformer = Transformer::from_parameters(&fitted.config, Parameters::from_map(parameters))?;
    Ok(Loaded { transformer, config: fitted.config, extra, warnings, fresh: fitted.fresh })
}

/// What a model folder holds, its numbers apart.
#[derive(Debug, Clone)]
pub struct Description {
    /// What the model is made of.
    pub config: ModelConfig,
    /// Special tokens and labels.
    pub extra: Extra,
    /// As [`Loaded::warnings`].
    pub warnings: Vec<String>,
    /// The type that the tensors are stored in; of several, the widest.
    pub dtype: DType,
}

/// Checks a model folder as [`load`] does, without reading its numbers.
///
/// # Errors
/// As [`load`].
pub fn describe(dir: &Path) -> Result<Description, Error> {
    let Opened { store, fitted, extra, warnings } = open(dir, None)?;
    let dtype = store.dtype(fitted.rows.iter().map(|(_, name)| name.as_str()));
    Ok(Description { config: fitted.config, extra, warnings, dtype })
}

/// A folder whose tensors were found to be those that are wanted.
struct Opened {
    store: tensors::Store,
    fitted: fit::Fit,
    extra: Extra,
    warnings: Vec<String>,
}

fn open(dir: &Path, head: Option<Head>) -> Result<Opened, Error> {
    let config_path = dir.join("config.json");
    if !config_path.is_file() {
        // The same words as for a path that leads nowhere.
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
    let bare = || Head::Hidden { pooler: has(layout, "*pooler.dense.weight") };
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
    Ok(Opened { store, fitted, extra, warnings })
}

/// Each parameter's name, with the name of the tensor that holds it in the folders that [`save`] writes; several
/// parameters may be stored as one tensor.
pub fn stored_names(config: &ModelConfig) -> BTreeMap<String, String> {
    let layout = layout::of(config);
    let prefix = layout::written_prefix(layout, config);
    let parts = |stored: Stored| {
        let name = stored.name.replacen('*', prefix, 1);
        stored.parts.into_iter().map(move |(ours, _)| (ours, name.clone()))
    };
    layout.names.table(config).into_iter().flat_map(parts).collect()
}

/// The same model under the family whose folder [`save`] writes as transformers has it: its own, or another that says
/// all of it; `None` where transformers has no such class.
pub fn in_transformers(config: &ModelConfig) -> Option<ModelConfig> {
    let renamed = |family| ModelConfig { family, ..config.clone() };
    let others = crate::families::FAMILIES.iter().map(|family| family.preset().family);
    std::iter::once(config.family)
        .chain(others)
        .map(renamed)
        .find(|config| layout::of(config).model_type != crate::families::OWN.model_type)
}

/// A parameter of these numbers; float32 on the CPU is taken over without a copy.
fn var(floats: Vec<f32>, shape: &[usize], options: &LoadOptions) -> Result<Var, Error> {
    if options.device.is_cpu() && options.dtype == DType::F32 {
        return Ok(Var::from_vec(floats, shape, &Device::Cpu)?);
    }
    let tensor = Tensor::from_vec(floats, shape, &Device::Cpu)?.to_dtype(options.dtype)?;
    Ok(Var::from_tensor(&tensor.to_device(&options.device)?)?)
}

/// Writes `config.json`, `model.safetensors` and, for a model that predicts the next token, `generation_config.json`
/// into `dir`, which is made if it isn't there.
///
/// The layout is that of the model's family as transformers writes it; a model that transformers has no class for gets
/// `model_type = "vulpes"`. Tied tensors are stored once. Nothing is fsynced.
///
/// # Errors
/// If a file can't be written.
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
            // An untied decoder has a bias of its own beside the one that it is tied to otherwise.
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
    write::write(&dir.join(tensors::WHOLE), &headers, |i| {
        let parts: crate::Result<Vec<&Tensor>> = rows[i]
            .parts
            .iter()
            .map(|(name, _)| transformer.parameters().get(name).map(|var| var.as_tensor()))
            .collect();
        numbers::bytes(&rows[i], &parts?)
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
