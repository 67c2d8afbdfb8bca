//! The folders of a model that may have an adapter: the base model's and the adapter's.

use std::path::{Path, PathBuf};

use super::super::error::Error;
use super::super::resolve::{is_adapter, resolve};
use super::CONFIG;
use super::config::base_name;

/// A model's folder, and that of the adapter applied to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The folder of the model itself.
    pub model: PathBuf,
    /// The adapter's.
    pub adapter: Option<PathBuf>,
}

impl From<&Path> for Sources {
    /// A model's folder without an adapter.
    fn from(model: &Path) -> Self {
        Self { model: model.to_path_buf(), adapter: None }
    }
}

impl Sources {
    /// The first of the adapter's and the model's folder for which `holds` is true; the model's if neither.
    pub fn with(&self, holds: impl Fn(&Path) -> bool) -> &Path {
        self.adapter.as_deref().filter(|adapter| holds(adapter)).unwrap_or(&self.model)
    }
}

/// The folders of `path` and a separately named adapter. A path to an adapter's folder, or to a run that left one,
/// means the base model that the adapter names, and the adapter.
///
/// # Errors
/// As [`super::super::resolve`]; also if a folder is no adapter, two adapters are named, or the adapter's base model
/// isn't found.
pub fn sources(path: &Path, adapter: Option<&Path>) -> Result<Sources, Error> {
    let model = resolve(path)?;
    let Some(named) = adapter else {
        return match is_adapter(&model) {
            true => Ok(Sources { model: base_of(&model)?, adapter: Some(model) }),
            false => Ok(Sources { model, adapter: None }),
        };
    };
    let adapter = resolve(named)?;
    if !is_adapter(&adapter) {
        let problem = format!("contains a model, not an adapter (there is no {CONFIG})");
        return Err(Error::NoModel { path: adapter, problem });
    }
    if is_adapter(&model) {
        let problem = "is an adapter itself; name the base model with the other one, or merge this one first: vulpes export \
                       --to hf";
        return Err(Error::NoModel { path: model, problem: problem.into() });
    }
    Ok(Sources { model, adapter: Some(adapter) })
}

/// The folder of the model that an adapter was made for.
fn base_of(adapter: &Path) -> Result<PathBuf, Error> {
    let advice = format!("; name it: --model BASE --adapter {}", adapter.display());
    let fail = |problem: String| Error::NoModel { path: adapter.join(CONFIG), problem };
    let Some(name) = base_name(adapter)? else {
        return Err(fail(format!("doesn't say which model the adapter is for{advice}")));
    };
    let beside = [adapter.join(&name), adapter.with_file_name(&name)];
    let found = resolve(Path::new(&name))
        .ok()
        .or_else(|| beside.iter().filter(|place| place.is_dir()).find_map(|place| resolve(place).ok()));
    match found {
        Some(found) if is_adapter(&found) => Err(fail(format!(
            "is an adapter of {}, which is an adapter itself: merge that one first",
            found.display()
        ))),
        Some(found) => Ok(found),
        None => Err(fail(format!(
            "is an adapter of {name:?}, which is neither a model's folder nor in the hub's cache{advice}"
        ))),
    }
}
