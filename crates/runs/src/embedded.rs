//! The configs that the program carries within itself, and the order in which a config is looked for.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Name and text of every file of `configs/` as it was when the program was built.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("bert-classify.toml", include_str!("../../../configs/bert-classify.toml")),
    ("bert-mini-mlm.toml", include_str!("../../../configs/bert-mini-mlm.toml")),
    ("finetune.toml", include_str!("../../../configs/finetune.toml")),
    ("fox.toml", include_str!("../../../configs/fox.toml")),
    ("fox-bert.toml", include_str!("../../../configs/fox-bert.toml")),
    ("fox-multihead.toml", include_str!("../../../configs/fox-multihead.toml")),
    ("shakespeare-char.toml", include_str!("../../../configs/shakespeare-char.toml")),
    ("gpt2-124m.toml", include_str!("../../../configs/gpt2-124m.toml")),
    ("llama-mini.toml", include_str!("../../../configs/llama-mini.toml")),
    ("shakespeare-gpt.toml", include_str!("../../../configs/shakespeare-gpt.toml")),
];

/// Path and text of the config called `name`: the file itself, the file of that name in `configs/`, or the one that
/// the program carries.
///
/// # Errors
/// When there is none of them, or the file can't be read as text.
pub fn find(name: &Path) -> Result<(PathBuf, String)> {
    for path in [name.to_path_buf(), Path::new("configs").join(name)] {
        if path.is_dir() {
            let reason = "is a folder, and a TOML file is wanted".to_owned();
            return Err(Error::Config { path, reason });
        }
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
            return match String::from_utf8(bytes) {
                Ok(text) => Ok((path, text)),
                Err(error) => {
                    let offset = error.utf8_error().valid_up_to();
                    let line = 1 + error.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
                    let reason = format!("is not valid UTF-8: byte {offset}, in line {line}");
                    Err(Error::Config { path, reason })
                }
            };
        }
    }
    let known = EMBEDDED.iter().find(|(known, _)| Path::new(known) == name);
    known.map(|(known, text)| (PathBuf::from(known), (*text).to_owned())).ok_or_else(|| {
        let names: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
        let reason = format!("is neither here nor in configs/; built in are {}", names.join(", "));
        Error::Config { path: name.to_path_buf(), reason }
    })
}
