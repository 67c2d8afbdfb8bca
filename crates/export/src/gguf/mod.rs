//! A model folder as one GGUF file for llama.cpp.
//!
//! config → architecture (llama.cpp's name for it, and whether it can represent all of the model) → keys and layers;
//! parameters → tensors, under llama.cpp's names and in its order; tokenizer → vocabulary.

mod adapter;
mod file;
mod head;
mod keys;
mod layers;
mod said;
mod tensors;
mod vocabulary;

pub(crate) use adapter::write as write_adapter;
pub(crate) use tensors::check_range;

use candle_core::quantized::QTensor;
use vulpes_data::Tokenizer;
use vulpes_model::{folder, gguf};

use crate::dtype::Dtype;
use crate::error::Result;
use crate::{Exported, Request};
use file::Keys;

/// Writes the GGUF file of a model folder.
///
/// # Errors
/// As for [`crate::export`].
pub(crate) fn write(request: &Request) -> Result<Exported> {
    let found = folder::describe_sources(request.model)?;
    let beside = request.model.with(|dir| Tokenizer::is_in(dir));
    let dtype = request.dtype.unwrap_or(Dtype::of(found.dtype));
    let architecture = said::architecture(&found.config)?;
    let layers = layers::of(architecture, &found.config)?;
    let mut notes = found.warnings;
    notes.extend(head::notes(architecture, &found.config)?);
    notes.extend(said::notes(architecture, &found.config));

    let name = architecture.name;
    let mut keys = keys::general(request, name, dtype);
    keys.extend(keys::of_model(architecture, &found.config, &layers));
    keys.extend(head::keys(architecture, &found.config, &found.extra, &request.model.model)?);
    let tokenizer = match request.with_tokenizer && Tokenizer::is_in(beside) {
        true => Some(Tokenizer::from_folder(beside)?),
        false => None,
    };
    match &tokenizer {
        Some(tokenizer) => {
            notes.extend(tokenizer.warnings().iter().cloned());
            keys.extend(vocabulary::keys(tokenizer, &found.config, beside, &mut notes)?);
        }
        None => {
            keys.extend(vocabulary::none());
            if request.with_tokenizer {
                notes.push("the folder has no tokenizer: the file reads and writes ids".into());
            }
        }
    }

    let targets = gguf::targets(architecture, &found.config);
    let loaded = crate::load(request.model)?;
    let parameters = loaded.transformer.parameters();
    let mut written: Vec<(String, QTensor)> = Vec::with_capacity(targets.len());
    let mut halves = Vec::new();
    for target in &targets {
        if (request.stop)() {
            return Err(crate::Error::Stopped);
        }
        let tensor = tensors::tensor(target, parameters)?;
        let (tensor, fell_back) = tensors::stored(&target.name, &tensor, dtype)?;
        if fell_back {
            halves.push(target.name.as_str());
        }
        written.push((target.name.clone(), tensor));
    }
    if let Some(factors) = layers.factors(&found.config)? {
        written.push((gguf::FREQUENCIES.to_owned(), factors));
    }
    if !halves.is_empty() {
        let of = if halves.len() == 1 { "tensor is" } else { "tensors are" };
        notes.push(format!(
            "{} {of} f16, as their row length is not a multiple of 32: {}",
            halves.len(),
            halves.join(", ")
        ));
    }
    file::write(request, (name, dtype), (&keys, &written), notes)
}
