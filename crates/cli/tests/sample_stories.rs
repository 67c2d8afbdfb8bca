//! A real trained model through `sample`: exact texts, one by one and as a batch.
//!
//! The model is expected in the folder that `VULPES_SHARED` names, else in `../shared` next to the repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The folder of the model, which must exist.
fn stories() -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let path =
        std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from).join("pretrained/stories260k");
    assert!(path.exists(), "{} is not here; VULPES_SHARED names its folder", path.display());
    path
}

fn sample(folder: &std::path::Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_sample")).arg("--model").arg(folder).args(args).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn greedy_texts_equal_the_published_ones() {
        let folder = stories();
        let golden: Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let prompts = golden["prompts"].as_array().unwrap();
        let text = |value: &Value| value["text"].as_str().unwrap().to_owned();
        let mut all = vec!["-n", "64", "--temp", "0", "--json"];
        for golden in prompts {
            let prompt = golden["prompt"].as_str().unwrap();
            let plain = sample(&folder, &["--prompt", prompt, "-n", "64", "--temp", "0"]);
            assert_eq!(String::from_utf8(plain).unwrap(), text(golden) + "\n");
            all.extend(["--prompt", prompt]);
        }
        // The same as one batch of prompts of different lengths, ids and text.
        let together: Value = serde_json::from_slice(&sample(&folder, &all)).unwrap();
        for (golden, ours) in prompts.iter().zip(together["prompts"].as_array().unwrap()) {
            let sample = &ours["samples"][0];
            let ids: Vec<&Value> =
                sample["tokens"].as_array().unwrap().iter().map(|token| &token["id"]).collect();
            assert_eq!(ours["prompt_ids"], golden["ids"]);
            assert_eq!(ids, golden["greedy64"].as_array().unwrap().iter().collect::<Vec<_>>());
            assert_eq!(
                golden["prompt"].as_str().unwrap().to_owned() + sample["text"].as_str().unwrap(),
                text(golden)
            );
        }
        // And a long one from only the start of a text.
        let long = &golden["greedy_from_bos_256"];
        let n = (long["ids"].as_array().unwrap().len() - 1).to_string();
        let ours = sample(&folder, &["--ids", "1", "-n", &n, "--temp", "0"]);
        assert_eq!(String::from_utf8(ours).unwrap().trim_end(), text(long).trim_end());
    }
}
