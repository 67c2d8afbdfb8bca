//! Which folder a path means: a model folder, or the one inside a run folder.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::hub::{Hub, Name};
use crate::plain_name::is_plain_name;

/// The model folder that `path` means.
///
/// A folder with a `config.json` means itself. A run folder means its `model/`, or before there is one its
/// `checkpoints/latest`; a `checkpoints/` folder means its `latest`. `latest` and `best` may be links, or files that
/// hold the name of a folder beside them.
///
/// A path that leads nowhere can be a model's name on the hub, `ORG/NAME` or `ORG/NAME@REVISION`, and then means the
/// snapshot that the hub's cache has of it. Nothing is fetched.
///
/// # Errors
/// If there is no model at any of these places; the message names them.
pub fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let places = [
        path.to_path_buf(),
        path.join("model"),
        path.join("checkpoints").join("latest"),
        path.join("latest"),
    ];
    for place in &places {
        let place = follow(place);
        // Whatever stands there: what can't be read is an error, never a reason to take another model in silence.
        if place.join("config.json").exists() {
            // A link is followed once, here: should it be turned elsewhere, all files still come from one folder.
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
        let wanted = "does not exist; a model folder, or a run folder with a model/, is wanted";
        format!("{wanted}. {}", hub.advice(&name))
    } else if !path.exists() {
        "does not exist; a model folder, or a run folder with a model/, is wanted".into()
    } else if path.is_file() {
        "is a file; the folder that holds config.json and model.safetensors is wanted".into()
    } else if path.join("adapter_config.json").is_file() {
        "holds an adapter (adapter_config.json), not a model; merge it into its base model first".into()
    } else {
        "holds no config.json, neither itself nor in model/ or checkpoints/latest".into()
    };
    Err(Error::NoModel { path: path.to_path_buf(), problem })
}

/// Where a small file that names a folder beside it points; other paths stay as they are.
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
