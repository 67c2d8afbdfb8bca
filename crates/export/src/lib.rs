//! A model folder in the form of others: a GGUF file for llama.cpp, or a folder for transformers in another type.
//!
//! model folder → [`export`]: the model's architecture there, its keys, tensors and vocabulary → a file of another name →
//! the name that was asked for, once it is whole.
//!
//! Knows nothing of runs or terminals.

mod dtype;
mod error;
mod gguf;
mod hf;
mod output;

use std::path::{Path, PathBuf};

pub use dtype::Dtype;
pub use error::{Error, Result};

/// The form that a model is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder as transformers reads it.
    Hf,
    /// One [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) file, as llama.cpp reads it.
    Gguf,
}

/// What is to be exported, and how.
pub struct Request<'a> {
    /// The model folder.
    pub model: &'a Path,
    /// What the model is called.
    pub name: String,
    /// The form that it is written in.
    pub format: Format,
    /// The type of the matrices; absent = as the folder has them.
    pub dtype: Option<Dtype>,
    /// Whether the tokenizer goes along.
    pub with_tokenizer: bool,
    /// The file or folder that is to be made.
    pub out: &'a Path,
    /// Asked again and again whether to stop; what was begun is then removed.
    pub stop: &'a dyn Fn() -> bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The file or folder.
    pub path: PathBuf,
    /// What the form calls the model's architecture.
    pub architecture: String,
    /// The type of the matrices.
    pub dtype: Dtype,
    /// The number of tensors.
    pub n_tensors: usize,
    /// The size of what was written, in bytes.
    pub n_bytes: u64,
    /// What was left aside or is otherwise than was asked for: one sentence each, for a person.
    pub notes: Vec<String>,
}

/// Writes a model folder in the form of others. Nothing that exists is written over, and nothing half is left.
///
/// # Errors
/// If the folder can't be read, the form can't say what the model or its tokenizer is, a number is beyond the type, or the
/// file can't be written.
pub fn export(request: &Request) -> Result<Exported> {
    output::check_free(request.out)?;
    match request.format {
        Format::Hf => hf::write(request),
        Format::Gguf => gguf::write(request),
    }
}
