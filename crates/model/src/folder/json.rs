//! Reads a file that contains one JSON object.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::Error;

/// The longest JSON file that is read: an index of a hundred thousand tensors fits many times over.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a file that contains one JSON object.
///
/// # Errors
/// Returns an error if it cannot be read, is not JSON (the line and column are named) or is not an object.
pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>, Error> {
    match read_value(path)? {
        Value::Object(object) => Ok(object),
        _ => Err(Error::Json { path: path.to_path_buf(), problem: "is JSON, but not an object".into() }),
    }
}

/// Reads a file that contains one JSON value.
///
/// # Errors
/// Returns an error if it cannot be read or is not JSON (the line and column are named).
pub(super) fn read_value(path: &Path) -> Result<Value, Error> {
    let problem = |problem: String| Error::Json { path: path.to_path_buf(), problem };
    let n_bytes = std::fs::metadata(path).map_err(Error::read(path))?.len();
    if n_bytes > MAX_BYTES {
        return Err(problem(format!("has {n_bytes} bytes, more than the limit of {MAX_BYTES}")));
    }
    let text = std::fs::read(path).map_err(Error::read(path))?;
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(value),
        Err(_) if is_lfs_pointer(&text) => Err(problem(LFS_POINTER.into())),
        Err(error) => Err(problem(format!("is not JSON: {error}"))),
    }
}

/// The problem with a git-lfs pointer in place of a file, and what to do about it.
pub(super) const LFS_POINTER: &str =
    "is a git-lfs pointer, not the file itself; fetch the file with: git lfs pull";

/// Whether a file's first bytes are those of a [pointer](https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
pub(super) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}
