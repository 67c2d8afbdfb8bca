//! Where the models of the tests lie, and how their goldens are read.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses its part"
)]

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;

/// The tiny models that lie in the repository (`tests/fixtures/make.py` makes them).
pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder of the larger goldens, at `VULPES_SHARED` or `shared` beside the repository; says so where it is absent.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let home = std::env::var_os("VULPES_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = home.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    skipped(&format!("{folder} is not beside the repository, and VULPES_SHARED does not name its place"));
    None
}

/// Says that a test was skipped, past the test runner's capture.
pub fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_string();
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

/// The folders of models with goldens: the repository's and, where they are, the shared ones.
pub fn goldens() -> Vec<PathBuf> {
    with_file(&fixtures(), "golden.json")
        .into_iter()
        .chain(shared("goldens").into_iter().flat_map(|dir| with_file(&dir, "golden.json")))
        .collect()
}

/// The variants of those models, as files in the wild hold them.
pub fn variants() -> Vec<PathBuf> {
    with_file(&fixtures().join("variants"), "expect.json")
        .into_iter()
        .chain(shared("goldens/variants").into_iter().flat_map(|dir| with_file(&dir, "expect.json")))
        .collect()
}

fn with_file(dir: &Path, file: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join(file).is_file())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} has no {file}", dir.display());
    folders
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .unwrap()
}

/// The tensors of a safetensors file.
pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The bytes of every tensor of a safetensors file, with type and shape.
pub fn raw(path: &Path) -> HashMap<String, (String, Vec<usize>, Vec<u8>)> {
    let file = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    tensors
        .iter()
        .map(|(name, view)| {
            (name.to_string(), (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec()))
        })
        .collect()
}

/// The name of a folder, for messages.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Copies the files of a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
        }
    }
}
