//! Invalid model folders and rows of ids: each is named, the exit code is 1 or 2, nothing is written.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Place, fixtures};

const CONFIG: &str =
    "[data]\nkind = \"ids\"\ntrain = \"rows.jsonl\"\n[train]\ninit_from = \"folder\"\nsteps = 1\n";
const ROW: &str = "{\"input_ids\": [4, 5, 6]}\n";

/// A place with a copy of a small model, changed by `change`, and matching rows.
fn changed(model: &str, change: impl FnOnce(&Path)) -> Place {
    let place = Place::new();
    let dir = fixtures().join(model);
    for entry in std::fs::read_dir(&dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_file() && !name.contains("golden") && name != "grads.safetensors" {
            place.write(&format!("folder/{name}"), std::fs::read(&path).expect("bytes"));
        }
    }
    place.write("rows.jsonl", ROW);
    place.write("from.toml", CONFIG);
    change(&place.path("folder"));
    place
}

/// Checks that training from the folder is refused with these messages, and leaves no trace.
#[track_caller]
fn refused(place: &Place, wanted: &[&str]) {
    let said = place.train(&["--config", "from.toml"]);
    assert!([1, 2].contains(&said.code), "{}", said.stderr);
    said.fails(said.code, wanted);
    assert!(!place.path("runs").exists(), "{}", said.stderr);
}

fn set(folder: &Path, key: &str, value: Value) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    config[key] = value;
    std::fs::write(path, config.to_string()).expect("a file");
}

#[test]
fn unsupported_config_json_keys_are_reported() {
    for (model, key, value, wanted) in [
        ("gpt2-one", "model_type", json!("mamba"), "model_type = \"mamba\" is not implemented"),
        ("gpt2-one", "activation_function", json!("mish"), "activation_function = \"mish\""),
        ("llama-plain", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "rope_type = \"yarn\""),
        ("llama-plain", "quantization_config", json!({"quant_method": "gptq"}), "quant_method = \"gptq\""),
        ("gpt2-one", "n_head", json!(3), "n_head = 3 does not divide n_embd = 20"),
        ("llama-plain", "num_key_value_heads", json!(2), "num_key_value_heads = 2 does not divide"),
        ("llama-plain", "intermediate_size", json!(38), "config.json requires [38, 40]"),
        ("llama-plain", "vocab_size", json!(58), "model.embed_tokens.weight is [59, 40]"),
    ] {
        refused(&changed(model, |folder| set(folder, key, value)), &["config.json", wanted]);
    }
}

#[test]
fn damaged_weight_files_are_reported() {
    let of_file = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, wanted: &[&str]| {
        let place = changed("gpt2-one", |folder| {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).expect("a file");
            std::fs::write(path, change(bytes)).expect("a file");
        });
        refused(&place, wanted);
    };
    let weights = "model.safetensors";
    of_file(
        weights,
        &|mut bytes| {
            bytes.truncate(bytes.len() - 7);
            bytes
        },
        &[weights, "is truncated"],
    );
    of_file(weights, &|_| Vec::new(), &[weights, "is truncated"]);
    let overlapping = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    let file = [&(overlapping.len() as u64).to_le_bytes()[..], overlapping.as_bytes(), &[0; 12]].concat();
    of_file(weights, &|_| file.clone(), &[weights, "overlap"]);
    of_file(
        "config.json",
        &|_| b"{\"model_type\": gpt2}".to_vec(),
        &["config.json", "is not JSON", "line 1"],
    );
    let place = changed("variants/llama-stretched--sharded", |folder| {
        std::fs::remove_file(folder.join("model-00002-of-00003.safetensors")).expect("a shard");
    });
    refused(&place, &["model.safetensors.index.json", "model-00002-of-00003.safetensors", "missing"]);
}

#[test]
fn unreadable_rows_are_reported_with_their_line() {
    let long = format!("{{\"input_ids\": {:?}}}", [4; 25]);
    for (row, wanted) in [
        ("{\"input_ids\": [4, 53]}", "rows.jsonl:2: id 53 is out of range: the vocabulary has 53"),
        ("{\"input_ids\": [4, -1]}", "rows.jsonl:2:"),
        ("{\"input_ids\": []}", "rows.jsonl:2: input_ids is empty"),
        (long.as_str(), "rows.jsonl:2: input_ids has 25 ids, and model.context_len is 24"),
        ("{\"input_ids\": [4, 5], \"labels\": [4]}", "rows.jsonl:2: labels has 1 values"),
        ("{\"input_ids\": [4, 5], \"labels\": [4, 53]}", "rows.jsonl:2: label 53"),
        ("{\"input_ids\": [4, 5], \"attention_mask\": [1, 2]}", "rows.jsonl:2: attention_mask"),
        ("{\"input_ids\": [4, 5], \"token_type_ids\": [0, 1]}", "this model has no token types"),
        ("{\"ids\": [4, 5]}", "rows.jsonl:2: unknown field `ids`"),
        ("nonsense", "rows.jsonl:2:"),
    ] {
        let place = changed("gpt2-one", |_| ());
        place.write("rows.jsonl", format!("{ROW}{row}\n"));
        refused(&place, &[wanted]);
    }
}

#[test]
fn tokenizer_larger_than_the_vocabulary_is_refused() {
    let place = changed("gpt2-one", |_| ());
    place.write("words.toml", "[model]\nn_layer = 1\nn_head = 1\nd_model = 4\n[data]\ntrain = \"data/fox.txt\"\n[train]\nsteps = 1\n");
    place.train(&["--config", "words.toml", "--out", "words"]).succeeds();
    place.write("folder/tokenizer.json", place.read("words/model/tokenizer.json"));
    refused(&place, &["folder/tokenizer.json: its ids go up to 170", "the model next to it has 53 tokens"]);
    place.write("folder/tokenizer.json", "{}");
    refused(&place, &["tokenizer.json"]);
}
