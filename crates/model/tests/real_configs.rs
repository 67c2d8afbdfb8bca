//! Configs of popular models: each yields the names, shapes and number of parameters that transformers writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use common::{json, shared};
use serde_json::{Map, Value, json};
use vulpes_model::{folder, n_parameters};

/// A safetensors file with these names and shapes whose values are a hole in a sparse file.
fn write_hollow(path: &Path, tensors: &[(String, Vec<usize>)]) {
    let mut header = Map::new();
    let mut end = 0u64;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().map(|n| *n as u64).product::<u64>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::from(header).to_string().into_bytes();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn the_configs_of_real_models_describe_their_tensors() {
        let home = shared("goldens/families/real-configs");
        let index = json(&home.join("index.json"));
        assert!(index.as_object().unwrap().len() > 20);
        for (name, about) in index.as_object().unwrap() {
            let names = json(&home.join(format!("{name}.names.json")));
            let tensors: Vec<(String, Vec<usize>)> = serde_json::from_value(names).unwrap();
            let out = tempfile::tempdir().unwrap();
            std::fs::copy(home.join(format!("{name}.json")), out.path().join("config.json")).unwrap();
            write_hollow(&out.path().join("model.safetensors"), &tensors);
            let found = folder::describe(out.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(n_parameters(&found.config) as u64, about["n_params"].as_u64().unwrap(), "{name}");
            // The model would be saved under the same names.
            let ours: BTreeSet<String> = folder::stored_names(&found.config).into_values().collect();
            let theirs: BTreeSet<String> = tensors.into_iter().map(|(name, _)| name).collect();
            assert_eq!(ours, theirs, "{name}");
            let unsaid =
                found.warnings.iter().filter(|said| !said.contains("differ; training uses one dropout"));
            assert_eq!(unsaid.count(), 0, "{name}: {:?}", found.warnings);
        }
    }
}
