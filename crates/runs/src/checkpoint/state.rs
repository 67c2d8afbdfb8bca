//! The files of a checkpoint's counters and optimizer tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::Tensor;
use safetensors::SafeTensorError;
use serde::Serialize;
use vulpes_trainer::State;

use super::files::Files;
use crate::error::{Error, Result};

/// The file name of the counters.
pub const STATE_JSON: &str = "train_state.json";

/// The file name of the optimizer's tensors.
pub const STATE_TENSORS: &str = "train_state.safetensors";

/// The maximum length of the counters' file, which has a kilobyte or two.
const MAX_BYTES: u64 = 1 << 20;

/// Reads [`STATE_JSON`] of a checkpoint folder.
///
/// # Errors
/// Returns a description of what is wrong.
pub fn read_state(dir: &Path) -> std::result::Result<State, String> {
    let text = read_small(&dir.join(STATE_JSON)).map_err(|error| format!("{STATE_JSON}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{STATE_JSON}: {error}"))
}

/// Reads a file of bounded size.
fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Writes [`STATE_TENSORS`] and [`STATE_JSON`] of a checkpoint folder.
///
/// # Errors
/// Returns an error that names the file that can't be written.
pub(crate) fn write_state(
    dir: &Path,
    tensors: &BTreeMap<String, Tensor>,
    state: &State,
    files: &dyn Files,
) -> Result<()> {
    let path = dir.join(STATE_TENSORS);
    // Tensor by tensor: the state of an optimizer can be most of a process's memory.
    safetensors::serialize_to_file(tensors, None, &path).map_err(|error| match error {
        SafeTensorError::IoError(source) => Error::io("write", &path, source),
        other => Error::io("write", &path, std::io::Error::other(other)),
    })?;
    files.written(&path).map_err(|source| Error::io("write", &path, source))?;
    write_json(&dir.join(STATE_JSON), state, files)
}

/// Writes a JSON document.
///
/// # Errors
/// Returns an error that names the file.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, files: &dyn Files) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
        text.push('\n');
        files.write(path, text.as_bytes())
    };
    write().map_err(|source| Error::io("write", path, source))
}
