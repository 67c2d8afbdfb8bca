//! Resolves a path to a model folder or to the one inside a run folder.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::hub::{Hub, Name};
use crate::magic::is_gguf;
use crate::plain_name::is_plain_name;

/// The name of an adapter's config file.
pub(super) const ADAPTER: &str = "adapter_config.json";

/// The model folder that `path` refers to.
///
/// A folder with a `config.json` is itself the result, and so is an adapter's. A run folder resolves to its `model/`,
/// or before that exists to its `checkpoints/latest`; a `checkpoints/` folder to its `latest`. `latest` and `best` may
/// be links, or files that contain the name of a folder next to them.
///
/// A path that doesn't exist can be a model's name on the hub, `ORG/NAME` or `ORG/NAME@REVISION`, and then means the
/// snapshot in the hub's cache. Nothing is fetched.
///
/// # Errors
/// Returns an error that lists the locations tried if there is no model at any of them.
pub fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let places = [
        path.to_path_buf(),
        path.join("model"),
        path.join("checkpoints").join("latest"),
        path.join("latest"),
    ];
    for place in &places {
        let place = follow(place);
        // Whatever is there: a file that can't be read is an error, never a reason to silently take another model.
        if place.join("config.json").exists() || is_adapter(&place) {
            // A link is followed once, here: if it changes meanwhile, all files still come from one folder.
            let is_link = std::fs::symlink_metadata(&place).is_ok_and(|place| place.is_symlink());
            return Ok(if is_link { place.canonicalize().unwrap_or(place) } else { place });
        }
    }
    let named = Name::of(path).filter(|_| !path.exists()).map(|name| (Hub::from_env(), name));
    if let Some(snapshot) = named.as_ref().and_then(|(hub, name)| hub.snapshot(name))
        && snapshot.join("config.json").exists()
    {
        return Ok(snapshot);
    }
    let problem = if let Some((hub, name)) = named {
        let wanted = "does not exist; a model folder, or a run folder with a model/, is needed";
        format!("{wanted}. {}", hub.advice(&name))
    } else if !path.exists() {
        "does not exist; a model folder, or a run folder with a model/, is needed".into()
    } else if is_gguf(path) {
        "is a GGUF file, which only sample and explain read; a model folder is needed here: the one the file was made from"
            .into()
    } else if path.is_file() {
        "is a file; the folder with config.json and model.safetensors is needed".into()
    } else {
        "has no config.json, neither itself nor in model/ or checkpoints/latest".into()
    };
    Err(Error::NoModel { path: path.to_path_buf(), problem })
}

/// Whether a folder is an adapter's, not a model's.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER).is_file() && !dir.join("config.json").exists()
}

/// The folder that a small file names; other paths are returned unchanged.
fn follow(path: &Path) -> PathBuf {
    let small = std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() < 256);
    if !small {
        return path.to_path_buf();
    }
    match std::fs::read_to_string(path) {
        Ok(name) if is_plain_name(name.trim()) => path.with_file_name(name.trim()),
        _ => path.to_path_buf(),
    }
}
