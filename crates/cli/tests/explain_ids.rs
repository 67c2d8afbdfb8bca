//! The program `explain` on model folders without a tokenizer: all logits and attention weights as transformers has them,
//! and the embedding of a text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn explain(model: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_explain")).arg("--model").arg(model).args(args).output().unwrap()
}

fn json(model: &Path, args: &[&str]) -> Value {
    let output = explain(model, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All numbers of nested lists, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len());
    let off = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < tolerance, "they differ by {off}");
}

#[test]
fn logits_and_attention_of_ids_are_those_of_transformers() {
    for name in ["gpt2-relu2", "llama-stretched"] {
        let dir = fixture(name);
        let golden = candle_core::safetensors::load(dir.join("golden.safetensors"), &Device::Cpu).unwrap();
        let ids: Vec<i64> = golden["input_ids"].get(0).unwrap().to_vec1().unwrap();
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let said = json(&dir, &["--ids", &ids.join(","), "--json", "--all-logits"]);
        close(&numbers(&said["logits"]), &values(&golden["logits"].get(0).unwrap()), 1e-4);
        for layer in 0..2 {
            let theirs = golden[&format!("attentions.{layer}")].get(0).unwrap();
            close(&numbers(&said["attentions"][layer]), &values(&theirs), 1e-5);
        }
        assert_eq!(said["tokens"][0].as_str(), Some(ids[0].as_str()));
        // The last of the hidden states, after the final norm, is what is averaged.
        let hidden = golden["hidden_states.2"].get(0).unwrap().to_dtype(DType::F64).unwrap();
        close(&numbers(&said["embedding"]), &values(&hidden.mean(0).unwrap()), 1e-5);
    }
}

#[test]
fn a_model_without_a_head_gives_an_embedding_and_predicts_nothing() {
    let dir = fixture("variants/bert-cls--encoder-only");
    let said = json(&dir, &["--ids", "5,6,7", "--json"]);
    assert_eq!(said["embedding"].as_array().unwrap().len(), 24);
    assert_eq!((&said["logits"], &said["next"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    let page = String::from_utf8(explain(&dir, &["--ids", "5,6,7"]).stdout).unwrap();
    assert!(page.contains("Embedding") && !page.contains("Next word"), "{page}");
    let output = explain(&dir, &["--ids", "5,6,7", "--target", "6"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no head"));
}
