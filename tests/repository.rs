//! Paths and files of this repository, for tests that read it.

use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The text of a file, by its path from the root.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names in a folder, by its path from the root, sorted, without hidden ones.
pub(crate) fn names(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root().join(folder))
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Every Rust file below `crates` and `tests`, by its path from the root, sorted.
pub(crate) fn rust_files() -> Vec<String> {
    fn walk(folder: &str, files: &mut Vec<String>) {
        for name in names(folder) {
            let path = format!("{folder}/{name}");
            if root().join(&path).is_dir() {
                walk(&path, files);
            } else if path.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk("crates", &mut files);
    walk("tests", &mut files);
    files
}

/// The first sentence of a Rust file's `//!` documentation, on one line.
pub(crate) fn first_sentence(path: &str) -> String {
    let text = read(path);
    let lines = text.lines().skip_while(|line| !line.starts_with("//!"));
    let paragraph: Vec<&str> = lines.map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let paragraph = paragraph.split(|line| line.is_empty()).next().unwrap_or_default().join(" ");
    match paragraph.split_once(". ") {
        Some((sentence, _)) => sentence.to_owned(),
        None => paragraph.trim_end_matches('.').to_owned(),
    }
}
