//! Writes the GGUF file.

use candle_core::quantized::{QTensor, gguf_file};

use crate::dtype::Dtype;
use crate::error::Result;
use crate::{Exported, Request, output};

/// The contents of a GGUF file besides the tensors, in order.
pub(super) type Keys = Vec<(String, gguf_file::Value)>;

/// Writes the requested file.
///
/// # Errors
/// Those of the file system; also if it was stopped.
pub(super) fn write(
    request: &Request,
    (architecture, dtype): (&str, Dtype),
    (keys, tensors): (&Keys, &[(String, QTensor)]),
    notes: Vec<String>,
) -> Result<Exported> {
    let keys: Vec<(&str, &gguf_file::Value)> =
        keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let n_bytes =
        output::file(request.out, request.stop, |file| Ok(gguf_file::write(file, &keys, &tensors)?))?;
    Ok(Exported {
        path: request.out.to_path_buf(),
        architecture: architecture.to_owned(),
        dtype,
        n_tensors: tensors.len(),
        n_bytes,
        notes,
    })
}
