//! A model folder as one GGUF file, as llama.cpp reads it.
//!
//! config → architecture (what llama.cpp calls such a model, and whether it can say all of it) → keys and layers;
//! parameters → tensors, under llama.cpp's names and in its order; tokenizer → vocabulary.

mod architecture;
mod head;
mod keys;
mod layers;
mod said;
mod tensors;
mod vocabulary;

pub(crate) use tensors::check_range;

use candle_core::quantized::{QTensor, gguf_file};
use vulpes_data::Tokenizer;
use vulpes_model::folder;

use crate::dtype::Dtype;
use crate::error::Result;
use crate::{Exported, Request, output};

/// What stands in a GGUF file beside the tensors, in order.
type Keys = Vec<(String, gguf_file::Value)>;

/// Writes the GGUF file of a model folder.
///
/// # Errors
/// As [`crate::export`].
pub(crate) fn write(request: &Request) -> Result<Exported> {
    let found = folder::describe(request.model)?;
    let dtype = request.dtype.unwrap_or(Dtype::of(found.dtype));
    let architecture = said::architecture(&found.config)?;
    let layers = layers::of(architecture, &found.config)?;
    let mut notes = found.warnings;
    notes.extend(head::notes(architecture, &found.config)?);
    notes.extend(architecture.notes(&found.config));

    let name = architecture.name;
    let mut keys = keys::general(request, name, dtype);
    keys.extend(keys::of_model(architecture, &found.config, &layers));
    keys.extend(head::keys(architecture, &found.config, &found.extra, request.model)?);
    let tokenizer = match request.with_tokenizer && Tokenizer::is_in(request.model) {
        true => Some(Tokenizer::from_folder(request.model)?),
        false => None,
    };
    match &tokenizer {
        Some(tokenizer) => {
            notes.extend(tokenizer.warnings().iter().cloned());
            keys.extend(vocabulary::keys(tokenizer, &found.config, request.model, &mut notes)?);
        }
        None => {
            keys.extend(vocabulary::none());
            if request.with_tokenizer {
                notes.push("the folder has no tokenizer: the file takes and gives ids".into());
            }
        }
    }

    let targets = tensors::targets(architecture, &found.config);
    let loaded = folder::load(request.model)?;
    let parameters = loaded.transformer.parameters();
    let mut written: Vec<(String, QTensor)> = Vec::with_capacity(targets.len());
    let mut halves = Vec::new();
    for target in &targets {
        if (request.stop)() {
            return Err(crate::Error::Stopped);
        }
        let tensor = target.tensor(parameters)?;
        let (tensor, fell_back) = tensors::stored(&target.name, &tensor, dtype)?;
        if fell_back {
            halves.push(target.name.as_str());
        }
        written.push((target.name.clone(), tensor));
    }
    if let Some(factors) = layers.factors(&found.config)? {
        written.push(("rope_freqs.weight".to_owned(), factors));
    }
    if !halves.is_empty() {
        let of = if halves.len() == 1 { "tensor is" } else { "tensors are" };
        notes.push(format!(
            "{} {of} f16, as their rows are no multiple of 32: {}",
            halves.len(),
            halves.join(", ")
        ));
    }
    let keys: Vec<(&str, &gguf_file::Value)> =
        keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        written.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let n_bytes =
        output::file(request.out, request.stop, |file| Ok(gguf_file::write(file, &keys, &tensors)?))?;
    Ok(Exported {
        path: request.out.to_path_buf(),
        architecture: name.to_owned(),
        dtype,
        n_tensors: tensors.len(),
        n_bytes,
        notes,
    })
}
