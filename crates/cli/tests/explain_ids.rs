//! `explain` without a tokenizer: logits and attention weights of transformers, and text embeddings.
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
fn logits_and_attention_of_ids_match_transformers() {
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
        // The last hidden states, after the final norm, are averaged.
        let hidden = golden["hidden_states.2"].get(0).unwrap().to_dtype(DType::F64).unwrap();
        close(&numbers(&said["embedding"]), &values(&hidden.mean(0).unwrap()), 1e-5);
    }
}

/// The output for a pair equals the model's for its ids with their types.
#[test]
fn token_types_reach_the_model_and_wrong_ones_are_refused() {
    use vulpes_model::{Input, Pass, folder};
    let dir = fixture("bert-mlm");
    let ids = ["--ids", "8,44,11,46", "--json"];
    let said = json(&dir, &[&ids[..], &["--all-logits", "--token-types", "0,0,1,1"]].concat());
    let model = folder::load(&dir).unwrap().transformer;
    let input =
        Input::new(&[8, 44, 11, 46], 1, &Device::Cpu).unwrap().with_token_types(&[0, 0, 1, 1]).unwrap();
    let hidden = model.forward(&input, &mut Pass::inference()).unwrap();
    let logits = model.logits(&hidden, &mut Pass::inference()).unwrap();
    close(&numbers(&said["logits"]), &values(&logits.get(0).unwrap()), 1e-5);
    assert_ne!(said["logits"], json(&dir, &[&ids[..], &["--all-logits"]].concat())["logits"]);
    for (types, words) in [("0,1", "2 token types for 4 ids"), ("0,0,9,9", "token type 9 is out of range")] {
        let output = explain(&dir, &[&ids[..], &["--token-types", types]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(words), "{stderr}");
    }
    let output = explain(&fixture("gpt2-one"), &["--ids", "1,2", "--token-types", "0,0"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
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
