//! The snapshots of a run: as a page with a slider, and as the learning history of one text.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::filled;
use crate::error::Error;

const TEMPLATE: &str = include_str!("page/film.html");
const SCRIPT: &str = concat!(include_str!("page/base.js"), include_str!("page/film.js"));

/// The contents of a run's `film.jsonl`.
struct Film {
    path: PathBuf,
    probes: Vec<Value>,
    frames: Vec<Value>,
}

/// How one text's answer was learned: its snapshots, step by step.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    answer: String,
    frames: Vec<Value>,
    /// The step of the checkpoint that equals the run folder's model, if it still exists.
    model_step: Option<u64>,
}

/// The page of a run's snapshots (`train.film = true`).
///
/// # Errors
/// Returns an error if the run folder has no snapshots, or the file is not what the training program writes.
pub fn film_page(run: &Path) -> Result<String, Error> {
    let film = Film::read(run)?;
    let title = film.probes[0]["text"].as_str().unwrap_or_default().to_owned();
    let data = json!({ "probes": film.probes, "frames": film.frames });
    filled(TEMPLATE, SCRIPT, &title, &data)
        .map_err(|error| Error::File { path: film.path, source: error.into() })
}

impl Story {
    /// The learning history of the text with these ids, if the folder is that of a run with snapshots of it.
    pub fn of(run: &Path, ids: &[u32]) -> Option<Self> {
        let film = Film::read(run).ok()?;
        let probe = film.probes.iter().position(|probe| probe["ids"] == json!(ids))?;
        let told = |frame: &Value| {
            let seen = &frame["probes"][probe];
            json!({ "step": frame["step"], "probability": seen["probability"], "angle": seen["angle"],
                    "length": seen["length"] })
        };
        let answer = film.probes[probe]["answer"].as_str()?.to_owned();
        Some(Self { answer, frames: film.frames.iter().map(told).collect(), model_step: model_step(run) })
    }
}

/// The step at which the weights of `model/` were saved: that of the checkpoint whose weights have the same hash.
fn model_step(run: &Path) -> Option<u64> {
    let hash = |folder: &Path| -> Option<String> {
        let manifest = std::fs::read_to_string(folder.join("manifest.json")).ok()?;
        let manifest: Value = serde_json::from_str(&manifest).ok()?;
        Some(manifest["files"]["model.safetensors"]["blake3"].as_str()?.to_owned())
    };
    let model = hash(&run.join("model"))?;
    let folders = std::fs::read_dir(run.join("checkpoints")).ok()?.flatten().map(|entry| entry.path());
    let step = |folder: &Path| folder.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok();
    folders.filter(|folder| hash(folder).as_ref() == Some(&model)).find_map(|folder| step(&folder))
}

impl Film {
    fn read(run: &Path) -> Result<Self, Error> {
        let path = run.join("film.jsonl");
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound if run.is_dir() => Error::NoFilm { run: run.to_path_buf() },
            _ => Error::File { path: path.clone(), source },
        })?;
        let wrong = |line: usize, what: &str| Error::Film {
            path: path.clone(),
            line: line + 1,
            what: what.to_owned(),
        };
        let mut values = Vec::new();
        let n_line = text.lines().count();
        for (number, line) in text.lines().enumerate() {
            match serde_json::from_str::<Value>(line) {
                Ok(value) => values.push(value),
                // The run may be writing its last line at this moment.
                Err(_) if number + 1 == n_line && number > 0 => {}
                Err(error) => return Err(wrong(number, &error.to_string())),
            }
        }
        let probes = values.first().and_then(|first| first["probes"].as_array()).cloned();
        let Some(probes) = probes.filter(|probes| !probes.is_empty()) else {
            return Err(wrong(0, "wanted the probes"));
        };
        let frames = values.split_off(1);
        let odd = |frame: &Value| frame["probes"].as_array().is_none_or(|seen| seen.len() != probes.len());
        if let Some(number) = frames.iter().position(odd) {
            return Err(wrong(number + 1, "wanted a frame with as many probes as the first line"));
        }
        if frames.is_empty() {
            return Err(wrong(0, "there is no frame yet: frames are written at each evaluation"));
        }
        Ok(Self { path, probes, frames })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_names_the_step_of_the_model() {
        let run = std::env::temp_dir().join(format!("vulpes-story-{}", std::process::id()));
        let manifest =
            |hash: &str| json!({ "files": { "model.safetensors": { "blake3": hash } } }).to_string();
        for (folder, hash) in
            [("model", "a"), ("checkpoints/step-00000200", "a"), ("checkpoints/step-00000300", "b")]
        {
            std::fs::create_dir_all(run.join(folder)).unwrap();
            std::fs::write(run.join(folder).join("manifest.json"), manifest(hash)).unwrap();
        }
        let seen = json!({ "probability": 0.5, "angle": null, "length": 1.0 });
        let lines = [
            json!({ "probes": [{ "ids": [1, 2], "answer": "jumps" }] }),
            json!({ "step": 200, "probes": [seen] }),
        ];
        std::fs::write(run.join("film.jsonl"), format!("{}\n{}\n", lines[0], lines[1])).unwrap();
        let story = Story::of(&run, &[1, 2]).unwrap();
        assert_eq!(story.model_step, Some(200));
        assert!(Story::of(&run, &[1]).is_none());
        std::fs::remove_dir_all(run).unwrap();
    }
}
