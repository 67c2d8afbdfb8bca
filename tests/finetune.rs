//! Fine-tuning folders of transformers: what the folder decides, torch's losses, kept files, freezing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Place, fixtures};

/// A folder of `../shared`, or of the folder that `VULPES_SHARED` names, which must exist.
fn shared(folder: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from).join(folder);
    assert!(path.is_dir(), "{} is not here; VULPES_SHARED names its folder", path.display());
    path
}

/// The folders of models below `dir` that have a `golden.json`.
fn goldens(dir: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<PathBuf> = entries
        .filter(|path| path.join("golden.json").is_file() && path.join("config.json").is_file())
        .collect();
    assert!(!folders.is_empty());
    folders.sort();
    folders
}

fn read_json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The rows of a golden batch in the format of `data.kind = "ids"`.
fn rows(golden: &Value) -> String {
    let n = golden["input_ids"].as_array().expect("rows").len();
    let row = |number: usize| {
        let keys = ["input_ids", "attention_mask", "token_type_ids", "labels"];
        let given = keys.iter().filter(|key| golden[**key].is_array());
        let row: serde_json::Map<_, _> =
            given.map(|key| ((*key).to_owned(), golden[*key][number].clone())).collect();
        format!("{}\n", Value::from(row))
    };
    (0..n).map(row).collect()
}

/// The settings of the goldens' loss curves.
const CURVE: &str = r#"
[data]
kind = "ids"
train = "rows.jsonl"
validation = "rows.jsonl"

[optimizer]
lr = 1e-3
betas = [0.9, 0.95]
eps = 1e-8
weight_decay = 0.1
clip = 1.0

[train]
steps = 20
shuffle = false
eval_every = 0
checkpoint_every = 0
"#;

/// The losses of a run: before each step, and after the last.
fn losses(place: &Place, run: &str) -> Vec<f64> {
    let text = place.read(&format!("{run}/metrics.jsonl"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |key: &'static str| lines.iter().filter_map(move |line| line[key].as_f64());
    of("loss").chain(of("val_loss")).collect()
}

fn match_torch_losses(folders: &[PathBuf]) {
    for dir in folders {
        let golden = read_json(&dir.join("golden.json"));
        let place = Place::new();
        place.write("rows.jsonl", rows(&golden));
        place.write("curve.toml", CURVE);
        let init_from = format!("train.init_from={}", dir.display());
        let n_rows = format!("train.batch_rows={}", golden["input_ids"].as_array().expect("rows").len());
        place.train(&["--config", "curve.toml", "--set", &init_from, "--set", &n_rows]).succeeds();
        let ours = losses(&place, "runs/curve");
        let theirs = golden["adamw"]["loss_curve_f64"].as_array().expect("a curve");
        assert_eq!(ours.len(), 21);
        for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            let off = (ours - theirs.as_f64().expect("a loss")).abs();
            assert!(off < 5e-5, "{}: after {step} steps the loss differs by {off}", dir.display());
        }
    }
}

/// The one command of README, for a causal, a masked and a classifying folder, with and without a tokenizer.
fn one_config_fine_tunes(folders: &[PathBuf]) {
    for dir in folders {
        let place = Place::new();
        let init_from = format!("train.init_from={}", dir.display());
        let said = place.train(&[
            "--config",
            "finetune.toml",
            "--set",
            &init_from,
            "--set",
            "train.steps=2",
            "--set",
            "train.batch_rows=2",
            "--set",
            "data.validation_rows=4",
            "--out",
            "run",
        ]);
        said.succeeds();
        let (had, has) =
            (read_json(&dir.join("config.json")), read_json(&place.path("run/model/config.json")));
        let keys =
            ["model_type", "architectures", "vocab_size", "hidden_size", "n_embd", "max_position_embeddings"];
        for key in keys {
            assert_eq!(had[key], has[key], "{}: {key}", dir.display());
        }
        let architecture = had["architectures"][0].as_str().expect("a class");
        let objective = match architecture {
            "BertForMaskedLM" => "masked_token",
            "BertForSequenceClassification" => "classify",
            _ => "next_token",
        };
        assert!(place.read("run/config.toml").contains(&format!("[objective]\nkind = \"{objective}\"")));
        let metrics = place.read("run/metrics.jsonl");
        assert_eq!(metrics.contains("val_macro_f1"), objective == "classify", "{metrics}");
        let has_tokenizer = dir.join("tokenizer.json").is_file();
        assert_eq!(said.stderr.contains("has no tokenizer.json"), !has_tokenizer, "{}", said.stderr);
        if objective == "classify" {
            let is_new = had["id2label"].as_object().expect("labels").len() != 5;
            let told = said.stderr.contains("initialized from the seed: head.classifier.weight");
            assert_eq!(told, is_new, "{}", said.stderr);
            assert_eq!(has["id2label"]["4"], "weather");
        }
    }
}

#[test]
fn left_and_right_padding_train_the_same() {
    let place = Place::new();
    place.write("curve.toml", CURVE);
    let rows: [&[u32]; 3] = [&[5, 6, 7, 8, 9], &[4, 9, 3], &[7]];
    let padded = |on_the_left: bool| -> String {
        let row = |ids: &&[u32]| {
            let (padding, real) = (vec![0; 5 - ids.len()], vec![1; ids.len()]);
            let joined = |padding: &[u32], real: &[u32]| match on_the_left {
                true => [padding, real].concat(),
                false => [real, padding].concat(),
            };
            let row = json!({"input_ids": joined(&padding, ids), "attention_mask": joined(&padding, &real)});
            format!("{row}\n")
        };
        rows.iter().map(row).collect()
    };
    for model in ["gpt2-one", "llama-stretched", "bert-mlm"] {
        let curve = |on_the_left: bool, run: &str| {
            let text = match model {
                // Every real position has a target.
                "bert-mlm" => padded(on_the_left)
                    .lines()
                    .map(|line| {
                        let mut row: Value = serde_json::from_str(line).expect("JSON");
                        let (ids, keep) = (row["input_ids"].clone(), row["attention_mask"].clone());
                        let labels =
                            ids.as_array().expect("ids").iter().zip(keep.as_array().expect("a mask"));
                        row["labels"] = labels
                            .map(|(id, keep)| if *keep == 1 { id.clone() } else { json!(-100) })
                            .collect();
                        format!("{row}\n")
                    })
                    .collect(),
                _ => padded(on_the_left),
            };
            place.write("rows.jsonl", text);
            let init_from = format!("train.init_from={}", fixtures().join(model).display());
            place
                .train(&[
                    "--config",
                    "curve.toml",
                    "--set",
                    &init_from,
                    "--set",
                    "train.steps=3",
                    "--out",
                    run,
                ])
                .succeeds();
            losses(&place, run)
        };
        let (left, right) = (curve(true, &format!("{model}-left")), curve(false, &format!("{model}-right")));
        for (left, right) in left.iter().zip(&right) {
            assert!((left - right).abs() < 1e-5, "{model}: {left} and {right}");
        }
    }
}

/// A copy of a folder in `place`, with rows of ids for training.
fn copied(place: &Place, model: &str) {
    let dir = fixtures().join(model);
    for name in ["config.json", "model.safetensors"] {
        place.write(&format!("folder/{name}"), std::fs::read(dir.join(name)).expect("a file"));
    }
    place.write("rows.jsonl", rows(&read_json(&dir.join("golden.json"))));
    place.write("curve.toml", CURVE);
}

const FROM_FOLDER: [&str; 4] = ["--config", "curve.toml", "--set", "train.init_from=folder"];

#[test]
fn resume_does_not_need_the_init_from_folder() {
    let place = Place::new();
    copied(&place, "bert-cls");
    let digest = |args: &[&str]| {
        let all = [&FROM_FOLDER[..], &["--quiet", "--json", "--set", "train.batch_rows=2"], args].concat();
        place.train(&all).succeeds().json()["digest"].clone()
    };
    let whole = digest(&["--set", "train.steps=6", "--out", "whole"]);
    digest(&["--set", "train.steps=3", "--out", "part"]);
    std::fs::remove_dir_all(place.path("folder")).expect("a folder");
    assert_eq!(digest(&["--set", "train.steps=6", "--out", "part", "--resume"]), whole);
}

#[test]
fn special_tokens_labels_and_the_tokenizers_files_are_kept() {
    let place = Place::new();
    copied(&place, "bert-cls");
    let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nnorth\n";
    place.write("folder/vocab.txt", words);
    place.train(&[&FROM_FOLDER[..], &["--set", "train.steps=1"]].concat()).succeeds();
    let config = read_json(&place.path("runs/curve/model/config.json"));
    assert_eq!(config["id2label"], json!({"0": "north", "1": "east", "2": "south", "3": "west", "4": "up"}));
    assert_eq!(config["pad_token_id"], 0);
    assert_eq!(place.read("runs/curve/model/vocab.txt"), words);

    let place = Place::new();
    copied(&place, "llama-plain");
    let mut config = read_json(&place.path("folder/config.json"));
    config["eos_token_id"] = json!([2, 5]);
    place.write("folder/config.json", config.to_string());
    place.train(&[&FROM_FOLDER[..], &["--set", "train.steps=1"]].concat()).succeeds();
    for file in ["config.json", "generation_config.json"] {
        let saved = read_json(&place.path("runs/curve/model").join(file));
        assert_eq!((&saved["bos_token_id"], &saved["eos_token_id"]), (&json!(1), &json!([2, 5])), "{file}");
    }
}

/// The bytes of every tensor of a safetensors file.
fn tensors(path: &Path) -> HashMap<String, Vec<u8>> {
    let file = std::fs::read(path).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
    tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

#[test]
fn frozen_parameters_change_no_bit() {
    let place = Place::new();
    copied(&place, "gpt2-relu2");
    let freeze = r#"train.freeze=["transformer.w[tp]e.*", "blocks.0.*", "*.ln_2.*"]"#;
    let args = [&FROM_FOLDER[..], &["--set", freeze, "--set", "train.steps=2"]].concat();
    let plan = place.train(&[&args[..], &["--dry-run", "--json"]].concat()).json();
    let names: Vec<&str> =
        plan["frozen"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"embedding.token.weight") && names.contains(&"blocks.1.feed_forward.norm.bias"));
    place.train(&args).succeeds();
    let before = tensors(&place.path("folder/model.safetensors"));
    let after = tensors(&place.path("runs/curve/model/model.safetensors"));
    assert_eq!(before.len(), after.len());
    for (name, was) in &before {
        let frozen = [".wte.", ".wpe.", ".h.0.", ".ln_2."].iter().any(|part| name.contains(part));
        assert_eq!(after[name] == *was, frozen, "{name}");
    }
    let said = place.train(&[&FROM_FOLDER[..], &["--set", "train.freeze=[\"*\"]", "--out", "none"]].concat());
    said.fails(2, &["train.freeze leaves no parameter to train"]);
    assert!(!place.path("none").exists());
}

#[test]
fn contradicting_folder_and_config_are_refused() {
    let place = Place::new();
    copied(&place, "bert-mlm");
    let refused = |settings: &[&str], wanted: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|item| ["--set", item]).collect();
        place.train(&[&FROM_FOLDER[..], &settings].concat()).fails(2, wanted);
        assert!(!place.path("runs").exists());
    };
    refused(&["model.n_layer=9"], &["[model] contradicts", "model.n_layer = 9, but it has 2"]);
    refused(&["model.window=4"], &["model.window = 4, but it has none"]);
    refused(&["objective.kind=next_token"], &["every token would see the one that it must predict"]);
    let mut config = read_json(&place.path("folder/config.json"));
    config["architectures"] = json!(["BertModel"]);
    place.write("folder/config.json", config.to_string());
    refused(
        &[],
        &["an encoder without a head", "objective.kind = \"masked_token\", \"classify\" or \"contrastive\""],
    );
}

#[test]
fn twenty_fine_tuning_steps_match_torch_losses() {
    match_torch_losses(&goldens(fixtures()));
}

#[test]
fn one_config_fine_tunes_every_kind_of_folder() {
    one_config_fine_tunes(&goldens(fixtures()));
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn twenty_fine_tuning_steps_of_larger_folders_match_torch_losses() {
        match_torch_losses(&goldens(shared("goldens")));
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn one_config_fine_tunes_every_kind_of_larger_folder() {
        one_config_fine_tunes(&goldens(shared("goldens")));
        one_config_fine_tunes(&[shared("pretrained/stories260k")]);
    }
}
