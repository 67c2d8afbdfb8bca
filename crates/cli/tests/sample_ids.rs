//! `sample` without a tokenizer: ids in, ids out, the tokens that transformers generates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn sample(model: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sample")).arg("--model").arg(model).args(args).output().unwrap()
}

#[test]
fn greedy_tokens_match_transformers() {
    for name in ["gpt2-one", "gpt2-relu2", "llama-plain", "llama-stretched"] {
        let dir = fixture(name);
        let golden: Value = serde_json::from_slice(&std::fs::read(dir.join("golden.json")).unwrap()).unwrap();
        for case in golden["greedy"].as_array().unwrap() {
            let list = |ids: &Value| -> Vec<String> {
                ids.as_array().unwrap().iter().map(ToString::to_string).collect()
            };
            let (prompt, new) = (list(&case["prompt"]), list(&case["new_tokens"]));
            let n = new.len().to_string();
            let output = sample(&dir, &["--ids", &prompt.join(","), "--temp", "0", "-n", &n, "--json"]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {stderr}");
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            let tokens = said["samples"][0]["tokens"].as_array().unwrap();
            let ids: Vec<String> = tokens.iter().map(|token| token["id"].to_string()).collect();
            // transformers generated this many tokens regardless of end tokens; our text ends at its end token.
            assert!(!ids.is_empty() && new.starts_with(&ids), "{name}: {ids:?} is not {new:?}");
            let text = said["samples"][0]["text"].as_str().unwrap();
            assert!(text.split_whitespace().eq(ids.iter().take(text.split_whitespace().count())), "{text}");
        }
    }
}

#[test]
fn text_without_a_tokenizer_is_refused() {
    let output = sample(&fixture("gpt2-one"), &["--prompt", "The fox"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("the folder holds no tokenizer.json") && output.stdout.is_empty(), "{stderr}");
}
