//! Writes a safetensors file part by part, so that a model is never held twice.
//!
//! [The format](https://huggingface.co/docs/safetensors): the length of the header (u64, little-endian), the header
//! (JSON: each tensor's type, shape and offsets), then the values, little-endian, without gaps.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::Error;

/// The name, type and shape of a tensor to be written.
pub(super) struct Header {
    /// The name in the file.
    pub(super) name: String,
    /// The element type as safetensors names it, and its width in bytes.
    pub(super) dtype: (&'static str, usize),
    /// The shape in the file.
    pub(super) shape: Vec<usize>,
}

/// Passes the bytes of the tensor of that index to the function, in order.
type Bytes<'a> = dyn Fn(usize, &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> + 'a;

/// Writes a file with the tensors of `headers`, in their order.
///
/// The file appears under its name once it is complete, with the permissions of any new file.
///
/// # Errors
/// Returns an error if it can't be written, or a tensor's length differs from its header.
pub(super) fn write(path: &Path, headers: &[Header], bytes: &Bytes<'_>) -> Result<(), Error> {
    let unfinished = path.with_extension("safetensors.unfinished");
    let result = write_all(&unfinished, headers, bytes)
        .and_then(|()| std::fs::rename(&unfinished, path).map_err(Error::write(path)));
    if result.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    result
}

fn write_all(path: &Path, headers: &[Header], bytes: &Bytes<'_>) -> Result<(), Error> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for Header { name, dtype: (dtype, width), shape } in headers {
        let start = end;
        end += shape.iter().product::<usize>() * width;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Readers that map the file need aligned values.
    header.resize(header.len().next_multiple_of(8), b' ');

    let failed = || Error::write(path);
    let mut file = BufWriter::new(File::create(path).map_err(failed())?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
    file.write_all(&header).map_err(failed())?;
    for (i, Header { name, dtype: (_, width), shape }) in headers.iter().enumerate() {
        let mut written = 0;
        bytes(i, &mut |some| {
            written += some.len();
            file.write_all(some).map_err(failed())
        })?;
        if written != shape.iter().product::<usize>() * width {
            let problem = format!("{name} has {written} bytes, which doesn't match its shape {shape:?}");
            return Err(Error::Safetensors { path: path.to_path_buf(), problem });
        }
    }
    file.flush().map_err(failed())
}
