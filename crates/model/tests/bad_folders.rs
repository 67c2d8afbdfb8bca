//! Malformed model folders: each is refused before anything is changed, and the message says what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::path::Path;

use common::{copy, fixtures, json};
use serde_json::{Value, json as value};
use tempfile::{TempDir, tempdir};
use vulpes_model::folder;

/// The error message for a copy of `model` with a changed `config.json`.
fn config_complaint(model: &str, change: impl FnOnce(&mut Value)) -> String {
    let (_keep, dir) = changed(model, change);
    complaint(&dir)
}

fn changed(model: &str, change: impl FnOnce(&mut Value)) -> (TempDir, std::path::PathBuf) {
    let out = tempdir().unwrap();
    let dir = out.path().join("model");
    copy(&fixtures().join(model), &dir);
    let mut config = json(&dir.join("config.json"));
    change(&mut config);
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    (out, dir)
}

fn complaint(dir: &Path) -> String {
    match folder::load(dir) {
        Ok(_) => panic!("{} was accepted", dir.display()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn unimplemented_settings_are_reported() {
    let cases: &[(&str, &str, Value, &str)] = &[
        ("gpt2-one", "model_type", value!("mamba"), "model_type = \"mamba\""),
        ("gpt2-one", "model_type", Value::Null, "has no model_type"),
        ("gpt2-one", "activation_function", value!("mish"), "activation_function = \"mish\""),
        ("gpt2-one", "scale_attn_weights", value!("no"), "scale_attn_weights = \"no\" is not true or false"),
        ("gpt2-one", "scale_attn_by_inverse_layer_idx", value!(true), "scale_attn_by_inverse_layer_idx"),
        ("gpt2-one", "add_cross_attention", value!(true), "add_cross_attention"),
        ("gpt2-one", "architectures", value!(["GPT2ForTokenClassification"]), "GPT2ForTokenClassification"),
        ("gpt2-one", "quantization_config", value!({"quant_method": "gptq"}), "gptq"),
        ("bert-mlm", "hidden_act", value!("mish"), "hidden_act = \"mish\""),
        ("bert-mlm", "is_decoder", value!(true), "is_decoder"),
        ("bert-mlm", "position_embedding_type", value!("relative_key"), "relative_key"),
        ("bert-mlm", "architectures", value!(["BertForQuestionAnswering"]), "BertForQuestionAnswering"),
        ("bert-cls", "problem_type", value!("regression"), "regression"),
        ("llama-plain", "hidden_act", value!("relu2"), "hidden_act = \"relu2\""),
        ("llama-plain", "rope_scaling", value!({"type": "dynamic", "factor": 2.0}), "\"dynamic\""),
        ("llama-plain", "rope_parameters", value!({"rope_type": "yarn", "rope_theta": 1e4}), "\"yarn\""),
        (
            "llama-plain",
            "rope_parameters",
            value!({"rope_type": "llama3", "factor": 8.0}),
            "needs low_freq_factor",
        ),
        ("llama-plain", "partial_rotary_factor", value!(0.5), "partial_rotary_factor"),
    ];
    for (model, key, value, wanted) in cases {
        let said = config_complaint(model, |config| config[*key] = value.clone());
        assert!(said.contains(wanted), "{key}: {said}");
        assert!(said.contains("config.json"), "{said}");
    }
}

#[test]
fn contradicting_sizes_are_reported_all_at_once() {
    let said = config_complaint("gpt2-one", |config| config["n_head"] = value!(3));
    assert!(said.contains("n_head = 3 does not divide n_embd = 20"), "{said}");
    let said = config_complaint("llama-plain", |config| {
        config["num_key_value_heads"] = value!(2);
        config["head_dim"] = value!(7);
        config["rms_norm_eps"] = value!("small");
        config["vocab_size"] = value!(0);
    });
    for wanted in [
        "num_key_value_heads = 2 does not divide num_attention_heads = 5",
        "head_dim = 7 is odd",
        "rms_norm_eps = \"small\"",
        "vocab_size = 0",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    let said = config_complaint("bert-cls", |config| config["num_labels"] = value!(4));
    assert!(said.contains("num_labels = 4 but id2label has 5"), "{said}");
    // Sizes beyond any memory are refused, not tried.
    let said = config_complaint("gpt2-one", |config| config["n_layer"] = value!(2_000_000_000));
    assert!(said.contains("2000000000 layers"), "{said}");
    let said = config_complaint("gpt2-one", |config| config["vocab_size"] = value!(2_000_000_000));
    assert!(said.contains("transformer.wte.weight is [53, 20]"), "{said}");
}

#[test]
fn missing_unexpected_and_misshapen_tensors_are_reported_all_at_once() {
    let (_keep, dir) = changed("llama-plain", |config| config["intermediate_size"] = value!(38));
    let mut tensors = common::tensors(&dir.join("model.safetensors"));
    let stranger = tensors.remove("model.norm.weight").unwrap();
    tensors.insert("model.layers.0.self_attn.q_norm.weight".into(), stranger);
    tensors.remove("lm_head.weight");
    let integers =
        tensors["model.layers.0.self_attn.q_proj.weight"].to_dtype(candle_core::DType::I64).unwrap();
    tensors.insert("model.layers.0.self_attn.q_proj.weight".into(), integers);
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
    let said = complaint(&dir);
    for wanted in [
        "missing: model.norm.weight, lm_head.weight",
        "unexpected: model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.mlp.gate_proj.weight is [37, 40], config.json requires [38, 40]",
        "model.layers.1.mlp.down_proj.weight is [40, 37], config.json requires [40, 38]",
        "model.layers.0.self_attn.q_proj.weight is I64",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    // More layers in the file than in the config.
    let said = config_complaint("llama-plain", |config| config["num_hidden_layers"] = value!(1));
    assert!(said.contains("unexpected: model.layers.1."), "{said}");
}

/// A safetensors file with this header and this many bytes of values.
fn file(header: &str, n_bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + n_bytes, 0);
    file
}

#[test]
fn malformed_safetensors_are_reported_by_kind() {
    let (_keep, dir) = changed("gpt2-one", |_| ());
    let path = dir.join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let tensor = |start: usize, end: usize| {
        format!(r#"{{"dtype":"F32","shape":[{}],"data_offsets":[{start},{end}]}}"#, (end - start) / 4)
    };
    let huge = r#"{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}"#;
    let mut header_of_a_terabyte = whole.clone();
    header_of_a_terabyte[..8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (whole[..whole.len() - 5].to_vec(), "truncated"),
        (whole[..100].to_vec(), "truncated"),
        (whole[..3].to_vec(), "truncated"),
        (Vec::new(), "truncated"),
        ([whole.clone(), vec![0; 9]].concat(), "trailing bytes"),
        (header_of_a_terabyte, "more than 100 MB"),
        (file(&format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 8), tensor(4, 12)), 12), "\"b\" overlap"),
        (file(&format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 8), tensor(12, 16)), 16), "gap"),
        (file(&format!(r#"{{"a":{huge}}}"#), 8), "more elements than can be counted"),
        (file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8), "do not fit"),
        (file("{not json", 0), "not a safetensors file"),
        (b"<html>404 Not Found</html>".to_vec(), "model.safetensors"),
    ];
    for (bytes, wanted) in cases {
        std::fs::write(&path, bytes).unwrap();
        let said = complaint(&dir);
        assert!(said.contains(wanted) && said.contains("model.safetensors"), "{wanted}: {said}");
    }
}

#[test]
fn index_refuses_outside_paths_and_missing_shards() {
    let out = tempdir().unwrap();
    let dir = out.path().join("model");
    copy(&fixtures().join("variants/llama-stretched--sharded"), &dir);
    let index = dir.join("model.safetensors.index.json");
    let whole = json(&index);
    let said = |change: &dyn Fn(&mut Value)| {
        let mut changed = whole.clone();
        change(&mut changed);
        std::fs::write(&index, changed.to_string()).unwrap();
        complaint(&dir)
    };
    for outside in ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", "..", "C:\\x", ""] {
        let said = said(&|index| index["weight_map"]["model.norm.weight"] = value!(outside));
        assert!(
            said.contains("model.norm.weight") && said.contains("not the name of a file"),
            "{outside}: {said}"
        );
    }
    let missing =
        said(&|index| index["weight_map"]["model.norm.weight"] = value!("model-00009-of-00009.safetensors"));
    assert!(missing.contains("model-00009-of-00009.safetensors") && missing.contains("missing"), "{missing}");
    let elsewhere = said(&|index| index["weight_map"]["nobody"] = value!("model-00001-of-00003.safetensors"));
    assert!(elsewhere.contains("nobody (in"), "{elsewhere}");
    let no_map = said(&|index| index["weight_map"] = value!(3));
    assert!(no_map.contains("weight_map"), "{no_map}");
}

#[test]
fn path_without_a_model_reports_what_was_looked_for() {
    let out = tempdir().unwrap();
    assert!(complaint(&out.path().join("nowhere")).contains("does not exist"));
    assert!(complaint(out.path()).contains("config.json"));
    std::fs::write(out.path().join("adapter_config.json"), "{}").unwrap();
    assert!(complaint(out.path()).contains("adapter"));
    let (_keep, dir) = changed("gpt2-one", |_| ());
    assert!(complaint(&dir.join("config.json")).contains("is a file"));
    std::fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap();
    assert!(complaint(&dir).contains("pytorch_model.bin"));
    std::fs::write(dir.join("config.json"), "{\n  \"model_type\": gpt2\n}").unwrap();
    let said = complaint(&dir);
    assert!(said.contains("line 2"), "{said}");
    std::fs::write(dir.join("config.json"), "[1]").unwrap();
    assert!(complaint(&dir).contains("not an object"));
}
