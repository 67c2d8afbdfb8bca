//! A model folder for transformers, with its weights in another dtype and everything else unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Var};
use serde_json::{Map, Value};
use vulpes_data::Tokenizer;
use vulpes_model::{ModelConfig, Parameters, Transformer, folder};

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::gguf::check_range;
use crate::{Exported, Request, output};

/// Files with the state of a run, which would be wrong in another folder.
const OF_RUNS: &[&str] = &["manifest.json", "train_state.json", "train_state.safetensors"];
/// Files that describe an adapter, which is merged, or belong to its base model's card.
const OF_ADAPTERS: &[&str] = &["adapter_config.json", "labels.json"];
/// Extensions of files with weights: those that are written anew, and other formats of the same.
const WEIGHTS: &[&str] = &[
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    ".pt",
    ".pth",
];
/// Writes the folder.
///
/// # Errors
/// As for [`crate::export`].
pub(crate) fn write(request: &Request) -> Result<Exported> {
    let found = folder::describe_sources(request.model)?;
    let dtype = request.dtype.unwrap_or(Dtype::of(found.dtype));
    let Some(plain) = dtype.plain() else { return Err(Error::NotInFolders { dtype }) };
    let mut notes = found.warnings;
    let Some(config) = folder::in_transformers(&found.config) else {
        let reason = "no class of it has these layers; Vulpes itself can read the folder";
        return Err(Error::Architecture { form: "transformers".into(), reasons: vec![reason.into()] });
    };
    let loaded = crate::load(request.model)?;
    let mut parameters = BTreeMap::new();
    for (name, parameter) in loaded.transformer.parameters().iter() {
        if (request.stop)() {
            return Err(Error::Stopped);
        }
        let tensor = parameter.as_tensor();
        if plain != DType::F32 {
            check_range(name, tensor, dtype)?;
        }
        parameters.insert(name.to_owned(), Var::from_tensor(&tensor.to_dtype(plain)?)?);
    }
    let transformer = Transformer::from_parameters(&config, Parameters::from_map(parameters))
        .map_err(folder::Error::from)?;
    let stored: BTreeSet<String> = folder::stored_names(&config).into_values().collect();
    let mut n_bytes = 0;
    output::folder(request.out, request.stop, |dir| {
        folder::save(dir, &transformer, &loaded.extra)?;
        keep_keys(&request.model.model, dir)?;
        notes.extend(copy_rest(request, dir)?);
        for entry in std::fs::read_dir(dir).map_err(Error::read(dir))?.flatten() {
            n_bytes += entry.metadata().map_or(0, |found| found.len());
        }
        Ok(())
    })?;
    Ok(Exported {
        path: request.out.to_path_buf(),
        architecture: architecture(&config),
        dtype,
        n_tensors: stored.len(),
        n_bytes,
        notes,
    })
}

fn architecture(config: &ModelConfig) -> String {
    let word = serde_json::to_value(config.family).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Adds to the written `config.json` the keys that only the model's own has, if both have one model type.
fn keep_keys(model: &Path, dir: &Path) -> Result<()> {
    let read = |dir: &Path| -> Result<Map<String, Value>> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
        let object: Option<Map<String, Value>> = serde_json::from_str(&text).ok();
        Ok(object.unwrap_or_default())
    };
    let (own, mut written) = (read(model)?, read(dir)?);
    if own.get("model_type") != written.get("model_type") {
        return Ok(());
    }
    for (key, value) in own {
        written.entry(key).or_insert(value);
    }
    let path = dir.join("config.json");
    std::fs::write(&path, format!("{:#}\n", Value::Object(written))).map_err(Error::write(&path))
}

/// Copies the rest of the folder: its tokenizer, its card, its settings for generation, and the modules of a sentence
/// encoder; returns what was left out.
fn copy_rest(request: &Request, dir: &Path) -> Result<Vec<String>> {
    let mut aside = Vec::new();
    // An adapter's files take precedence over those of its base model.
    let folders = [Some(request.model.model.as_path()), request.model.adapter.as_deref()];
    for folder in folders.into_iter().flatten() {
        aside.extend(copy_from(folder, request, dir)?);
    }
    aside.sort();
    let words = (!aside.is_empty()).then(|| format!("folders left out: {}", aside.join(", ")));
    Ok(words.into_iter().collect())
}

/// Copies the rest of `folder`; returns the names of the folders in it that were left out.
fn copy_from(folder: &Path, request: &Request, dir: &Path) -> Result<Vec<String>> {
    let mut aside = Vec::new();
    let modules = std::fs::read_to_string(folder.join("modules.json")).unwrap_or_default();
    let modules: Vec<Value> = serde_json::from_str(&modules).unwrap_or_default();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_weights = WEIGHTS.iter().any(|ending| name.ends_with(ending));
        let of_tokenizer = name == Tokenizer::FILE || Tokenizer::FILES_BESIDE.contains(&name.as_str());
        if path.is_dir() {
            match modules.iter().any(|module| module["path"] == name.as_str()) {
                true => copy_folder(&path, &dir.join(&name))?,
                false => aside.push(name),
            }
        } else if !is_weights
            && name != "config.json"
            && !OF_ADAPTERS.contains(&name.as_str())
            && !name.starts_with('.')
            && !OF_RUNS.contains(&name.as_str())
            && (request.with_tokenizer || !of_tokenizer)
        {
            std::fs::copy(&path, dir.join(&name)).map_err(Error::write(&path))?;
        }
    }
    Ok(aside)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(Error::write(to))?;
    for entry in std::fs::read_dir(from).map_err(Error::read(from))?.flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), &target).map(|_| ()).map_err(Error::write(&target))?,
        }
    }
    Ok(())
}
