//! The counters of a checkpoint as a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use vulpes_trainer::State;

/// The name of the counters' file.
pub const STATE_JSON: &str = "train_state.json";

/// The name of the optimizer's tensors' file.
pub const STATE_TENSORS: &str = "train_state.safetensors";

/// The counters are a kilobyte or two; what is longer is no file of counters.
const MAX_BYTES: u64 = 1 << 20;

/// Reads [`STATE_JSON`] of a checkpoint folder.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read_state(dir: &Path) -> Result<State, String> {
    let text = read_small(&dir.join(STATE_JSON)).map_err(|error| format!("{STATE_JSON}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{STATE_JSON}: {error}"))
}

/// Reads a file that is small by nature.
fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}
