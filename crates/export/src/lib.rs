//! Exports a model folder: a GGUF file for llama.cpp, or a transformers folder in another dtype.
#![doc = include_str!("../README.md")]

mod dtype;
mod error;
mod gguf;
mod hf;
mod output;

use std::path::{Path, PathBuf};

use vulpes_model::folder::{self, LoadOptions, Loaded, Sources};

pub use dtype::Dtype;
pub use error::{Error, Result};

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder for transformers.
    Hf,
    /// One [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) file for llama.cpp.
    Gguf,
    /// One GGUF file with only the adapter, which llama.cpp applies to its base model.
    GgufAdapter,
}

/// What is to be exported, and how.
pub struct Request<'a> {
    /// The model's folder, and that of the adapter that is merged into it.
    pub model: &'a Sources,
    /// The model's name.
    pub name: String,
    /// The format of the output.
    pub format: Format,
    /// The dtype of the matrices; `None` = that of the folder.
    pub dtype: Option<Dtype>,
    /// Whether the tokenizer is exported.
    pub with_tokenizer: bool,
    /// The file or folder to be made.
    pub out: &'a Path,
    /// Called repeatedly to ask whether to stop; the unfinished output is then removed.
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The file or folder.
    pub path: PathBuf,
    /// The architecture's name in the format.
    pub architecture: String,
    /// The dtype of the matrices.
    pub dtype: Dtype,
    /// The number of tensors.
    pub n_tensors: usize,
    /// The size of what was written, in bytes.
    pub n_bytes: u64,
    /// What was left out or differs from the request: one sentence each, for a person.
    pub notes: Vec<String>,
}

/// Exports a model folder. Existing files are never overwritten, and no partial output remains.
///
/// # Errors
/// Returns an error if the folder can't be read, the format can't represent the model or its tokenizer, a value is
/// out of the dtype's range, or the file can't be written.
/// file can't be written.
pub fn export(request: &Request) -> Result<Exported> {
    output::check_free(request.out)?;
    match request.format {
        Format::Hf => hf::write(request),
        Format::Gguf => gguf::write(request),
        Format::GgufAdapter => gguf::write_adapter(request),
    }
}

/// Loads the model, with an adapter merged.
fn load(sources: &Sources) -> Result<Loaded> {
    let options = LoadOptions { adapter: sources.adapter.clone(), ..LoadOptions::default() };
    Ok(folder::load_with(&sources.model, &options)?)
}
