//! The configs built into the program, and the lookup of a config by name.

use std::path::{Path, PathBuf};

use vulpes_model::folder::{self, Sources};

use crate::error::{Error, Result};

/// Name and text of every file of `configs/` and `configs/lessons/` at build time.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("fox.toml", include_str!("../embedded/fox.toml")),
    ("fox-multihead.toml", include_str!("../embedded/fox-multihead.toml")),
    ("fox-bert.toml", include_str!("../embedded/fox-bert.toml")),
    ("adapter.toml", include_str!("../embedded/adapter.toml")),
    ("bert-classify.toml", include_str!("../embedded/bert-classify.toml")),
    ("bert-mini-mlm.toml", include_str!("../embedded/bert-mini-mlm.toml")),
    ("embed-mini.toml", include_str!("../embedded/embed-mini.toml")),
    ("finetune.toml", include_str!("../embedded/finetune.toml")),
    ("gpt2-124m.toml", include_str!("../embedded/gpt2-124m.toml")),
    ("llama-mini.toml", include_str!("../embedded/llama-mini.toml")),
    ("modernbert-mini.toml", include_str!("../embedded/modernbert-mini.toml")),
    ("qwen3-mini.toml", include_str!("../embedded/qwen3-mini.toml")),
    ("shakespeare-char.toml", include_str!("../embedded/shakespeare-char.toml")),
    ("shakespeare-gpt.toml", include_str!("../embedded/shakespeare-gpt.toml")),
    ("speedrun.toml", include_str!("../embedded/speedrun.toml")),
    ("lessons/01-weights.toml", include_str!("../embedded/lessons/01-weights.toml")),
    ("lessons/02-context.toml", include_str!("../embedded/lessons/02-context.toml")),
    ("lessons/03-prediction.toml", include_str!("../embedded/lessons/03-prediction.toml")),
    ("lessons/04-learning.toml", include_str!("../embedded/lessons/04-learning.toml")),
    ("lessons/05-query-key-value.toml", include_str!("../embedded/lessons/05-query-key-value.toml")),
    ("lessons/05-without-scale.toml", include_str!("../embedded/lessons/05-without-scale.toml")),
    ("lessons/06-heads.toml", include_str!("../embedded/lessons/06-heads.toml")),
    ("lessons/07-bert.toml", include_str!("../embedded/lessons/07-bert.toml")),
    ("lessons/07-without-mask.toml", include_str!("../embedded/lessons/07-without-mask.toml")),
    ("lessons/08-classify.toml", include_str!("../embedded/lessons/08-classify.toml")),
    ("chat.toml", include_str!("../embedded/chat.toml")),
    ("chat-finetune.toml", include_str!("../embedded/chat-finetune.toml")),
];

/// The summary of a config: the first sentence of its text.
pub fn summary(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let words = lines.map(|line| line.trim_start_matches('#').trim()).collect::<Vec<_>>().join(" ");
    // A lesson's number is not a sentence.
    let from = if words.starts_with("Lesson") { words.find(": ").map_or(0, |colon| colon + 2) } else { 0 };
    let end = words[from..].find(". ").map_or(words.len(), |end| from + end + 1);
    words[..end].to_owned()
}

/// The name of the built-in config whose default run folder is `path`; `None` for any other path.
pub(crate) fn making(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let is_run = path.parent().is_some_and(|parent| parent == Path::new("runs"));
    let stems = EMBEDDED.iter().filter_map(|(file, _)| file.strip_suffix(".toml"));
    stems.filter(|_| is_run).find(|stem| stem.rsplit('/').next() == Some(name))
}

/// The model folder that `path` refers to, as found by [`folder::resolve`]; if it is the run of a built-in config that
/// has not been trained yet, the error says so.
///
/// # Errors
/// Returns an error if there is no model folder.
pub fn model_folder(path: &Path) -> Result<PathBuf> {
    folder::resolve(path).map_err(|error| match making(path).filter(|_| !path.exists()) {
        Some(config) => Error::Usage(format!("{error}; `train --config {config}` creates it")),
        None => error.into(),
    })
}

/// The folders that a model comes from: [`model_folder`] of `path`, with the adapter that `adapter` names or that the
/// path itself refers to.
///
/// # Errors
/// Returns an error if the model folder, the named adapter or the adapter's base model is missing.
pub fn model_sources(path: &Path, adapter: Option<&Path>) -> Result<Sources> {
    Ok(folder::sources(&model_folder(path)?, adapter)?)
}

/// Path and text of the config called `name`: the file itself, the file of that name in `configs/`, or the built-in
/// one; each with or without `.toml`, the lessons also without their folder.
///
/// # Errors
/// Returns an error if none is found, or the file can't be read as text.
pub fn find(name: &Path) -> Result<(PathBuf, String)> {
    let with_ending = match name.extension() {
        Some(ending) if ending == "toml" => None,
        _ => Some(PathBuf::from(format!("{}.toml", name.display()))),
    };
    let names = || [Some(name), with_ending.as_deref()].into_iter().flatten();
    let places = names().flat_map(|name| {
        [name.to_path_buf(), Path::new("configs").join(name), Path::new("configs/lessons").join(name)]
    });
    let mut folder = None;
    for path in places {
        if path.is_dir() {
            folder = folder.or(Some(path));
        } else if path.exists() {
            let text = read(&path)?;
            return Ok((path, text));
        }
    }
    let carried = names().find_map(|name| {
        let is_named = |known: &str| {
            Path::new(known) == name
                || known.strip_prefix("lessons/").is_some_and(|lesson| Path::new(lesson) == name)
        };
        EMBEDDED.iter().find(|(known, _)| is_named(known))
    });
    if let Some((known, text)) = carried {
        return Ok((PathBuf::from(known), (*text).to_owned()));
    }
    if let Some(path) = folder {
        return Err(Error::Config { path, reason: "is a folder; expected a TOML file".to_owned() });
    }
    let names: Vec<&str> =
        EMBEDDED.iter().map(|(name, _)| *name).filter(|name| !name.contains('/')).collect();
    let reason = format!(
        "was not found here or in configs/; built in: {}, and the lessons (train --list)",
        names.join(", ")
    );
    Err(Error::Config { path: name.to_path_buf(), reason })
}

/// A config file's text.
fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
        let reason = format!("is not valid UTF-8: byte {offset}, in line {line}");
        Error::Config { path: path.to_path_buf(), reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_found_with_and_without_its_extension_and_folder() {
        let found = |name: &str| find(Path::new(name)).map(|(path, _)| path.display().to_string());
        assert_eq!(found("fox").unwrap(), "fox.toml");
        assert_eq!(found("fox.toml").unwrap(), "fox.toml");
        for lesson in ["lessons/01-weights.toml", "lessons/01-weights", "01-weights.toml", "01-weights"] {
            assert_eq!(found(lesson).unwrap(), "lessons/01-weights.toml");
        }
        assert!(found("src").unwrap_err().to_string().contains("is a folder"));
        assert!(found("foxes").unwrap_err().to_string().contains("built in: fox.toml, "));
    }

    #[test]
    fn every_config_begins_with_a_summary() {
        for (name, text) in EMBEDDED {
            let words = summary(text);
            assert!(words.len() > 20 && words.len() < 200 && words.ends_with('.'), "{name}: {words:?}");
        }
        assert_eq!(summary("# Lesson 1: a thing. More.\n# Yes.\n\n[a]\n# no\n"), "Lesson 1: a thing.");
    }
}
