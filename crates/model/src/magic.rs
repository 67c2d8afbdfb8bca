//! Recognizes GGUF files.

use std::io::Read;
use std::path::Path;

/// The first bytes of a GGUF file.
pub(crate) const MAGIC: &[u8] = b"GGUF";

/// Whether a path is a GGUF file: a file that begins with `GGUF` or has the extension `gguf`.
pub fn is_gguf(path: &Path) -> bool {
    let is_called = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    let begins = || {
        let mut start = [0; MAGIC.len()];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
        read.is_ok() && start == MAGIC
    };
    path.is_file() && (is_called || begins())
}
