//! The film of a run as a page with a scrubber.

use std::path::Path;

use serde_json::{Value, json};

use super::filled;
use crate::Error;

const TEMPLATE: &str = include_str!("film.html");

/// The page of the film that a run has kept (`train.film = true`).
///
/// # Errors
/// Where the run folder has no film, or the file is not what the training program writes.
pub fn film_page(run: &Path) -> Result<String, Error> {
    let path = run.join("film.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let wrong =
        |line: usize, what: &str| Error::Film { path: path.clone(), line: line + 1, what: what.to_owned() };
    let mut values = Vec::new();
    let n_line = text.lines().count();
    for (number, line) in text.lines().enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => values.push(value),
            // The run may be writing its last line just now.
            Err(_) if number + 1 == n_line && number > 0 => {}
            Err(error) => return Err(wrong(number, &error.to_string())),
        }
    }
    let probes = values.first().and_then(|first| first["probes"].as_array()).cloned();
    let Some(probes) = probes.filter(|probes| !probes.is_empty()) else {
        return Err(wrong(0, "wanted the probes"));
    };
    let frames = &values[1..];
    let odd = |frame: &Value| frame["probes"].as_array().is_none_or(|seen| seen.len() != probes.len());
    if let Some(number) = frames.iter().position(odd) {
        return Err(wrong(number + 1, "wanted a frame with as many probes as the first line"));
    }
    if frames.is_empty() {
        return Err(wrong(0, "there is no frame yet: frames are kept at each evaluation"));
    }
    let title = probes[0]["text"].as_str().unwrap_or_default().to_owned();
    let data = json!({ "probes": probes, "frames": frames });
    filled(TEMPLATE, &title, &data).map_err(|error| Error::File { path, source: error.into() })
}
