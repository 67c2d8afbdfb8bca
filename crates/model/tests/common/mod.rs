//! The folders of the tests' models, and readers of their goldens.
#![allow(
    dead_code,
    unused_macros,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses its part"
)]

pub mod golden;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;

/// The tiny models in the repository (made by `tests/fixtures/make.py`).
pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder of the larger goldens, in `VULPES_SHARED` or in `shared` next to the repository; it must exist.
pub fn shared(folder: &str) -> PathBuf {
    let home = std::env::var_os("VULPES_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    let path = home.join(folder);
    assert!(path.is_dir(), "{} does not exist; set VULPES_SHARED to its parent folder", path.display());
    path
}

/// The models below `home` that have goldens.
pub fn goldens(home: &Path) -> Vec<PathBuf> {
    let folders = with_file(home, "golden.json").into_iter();
    // A folder of sentence-transformers has goldens of another kind.
    folders.filter(|dir| json(&dir.join("golden.json"))["kind"] != "sentence").collect()
}

/// Those that generate.
pub fn causal(home: &Path) -> Vec<PathBuf> {
    with_file(home, "golden_leftpad.safetensors")
}

/// Those that also have their config in an older spelling.
pub fn spelled_twice(home: &Path) -> Vec<PathBuf> {
    let folders = goldens(home).into_iter();
    folders.filter(|dir| dir.join("config.v4.json").is_file()).collect()
}

/// The adapters below `home` that have goldens.
pub fn adapters(home: &Path) -> Vec<PathBuf> {
    with_file(&home.join("lora"), "golden.json")
}

/// The variants of those models, in the forms of files in the wild.
pub fn variants(home: &Path) -> Vec<PathBuf> {
    with_file(&home.join("variants"), "expect.json")
}

/// Turns each check into a test of the repository's models and tests of the larger ones in `../shared`.
macro_rules! tests_of_folders {
    ($($check:ident($folders:ident);)*) => {
        tests_of_folders!(but_families $($check($folders);)*);

        mod families {
            mod fixtures {
                $(#[test]
                fn $check() {
                    use super::super::common;
                    super::super::$check(common::$folders(&common::fixtures().join("families")));
                })*
            }

            mod needs_shared {
                $(#[test]
                #[ignore = "needs ../shared"]
                fn $check() {
                    use super::super::common;
                    super::super::$check(common::$folders(&common::shared("goldens/families")));
                })*
            }
        }
    };
    (but_families $($check:ident($folders:ident);)*) => {
        mod fixtures {
            $(#[test]
            fn $check() {
                super::$check(super::common::$folders(&super::common::fixtures()));
            })*
        }

        mod needs_shared {
            $(#[test]
            #[ignore = "needs ../shared"]
            fn $check() {
                super::$check(super::common::$folders(&super::common::shared("goldens")));
            })*
        }
    };
}

fn with_file(dir: &Path, file: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let is_model =
                ["config.json", "adapter_config.json"].iter().any(|name| path.join(name).is_file());
            path.join(file).is_file() && (file == "expect.json" || is_model)
        })
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} has no {file}", dir.display());
    folders
}

/// The device of the tests: the CPU, or that of `VULPES_DEVICE`.
pub fn device() -> Device {
    let name = std::env::var("VULPES_DEVICE").unwrap_or_else(|_| "cpu".to_string());
    vulpes_model::device::parse(Some(&name)).unwrap_or_else(|error| panic!("VULPES_DEVICE: {error}"))
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
