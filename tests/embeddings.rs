//! Text embeddings from the real programs: torch's losses for pairs, a run's folder, `sample`, refusals.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, Said, fixtures};

/// The config that trains the fixture's model on its pairs, as for the golden losses.
const PAIRS: &str = r#"
[data]
kind = "jsonl"
train = "pairs.jsonl"
validation = "pairs.jsonl"
text_column = "question"
pair_column = "answer"

[optimizer]
lr = 1e-3
betas = [0.9, 0.95]
eps = 1e-8
weight_decay = 0.1
clip = 1.0

[train]
init_from = "sentence"
steps = 12
batch_rows = 3
shuffle = false
eval_every = 0
checkpoint_every = 0
"#;

/// A place with the fixture's folder and pairs.
fn place() -> (Place, Value) {
    let place = Place::new();
    let dir = fixtures().join("sentences/bert");
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    ] {
        place.write(&format!("sentence/{name}"), std::fs::read(dir.join(name)).expect("a file"));
    }
    place.write("pairs.jsonl", std::fs::read(dir.join("pairs.jsonl")).expect("pairs"));
    place.write("pairs.toml", PAIRS);
    let golden = std::fs::read_to_string(dir.join("golden.json")).expect("a golden");
    (place, serde_json::from_str(&golden).expect("JSON"))
}

fn train(place: &Place, run: &str, more: &[&str]) -> Said {
    let mut args = vec!["--config", "pairs.toml", "--out", run];
    more.iter().for_each(|set| args.extend(["--set", set]));
    place.train(&args)
}

fn metrics(place: &Place, run: &str) -> Vec<Value> {
    let text = place.read(&format!("{run}/metrics.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn sample(place: &Place, args: &[&str]) -> Said {
    place.run(env!("CARGO_BIN_EXE_sample"), args)
}

fn vector(value: &Value) -> Vec<f64> {
    value.as_array().expect("a vector").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn off(ours: &Value, theirs: &Value) -> f64 {
    let (ours, theirs) = (vector(ours), vector(theirs));
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn pairs_match_torch_losses_however_a_step_is_cut() {
    let (place, golden) = place();
    for (number, cut) in [
        &["train.shards=1"][..],
        &["train.shards=3", "train.threads=2"],
        &["train.batch_rows=1", "train.accumulate=3"],
    ]
    .iter()
    .enumerate()
    {
        let run = format!("run{number}");
        train(&place, &run, cut).succeeds();
        let lines = metrics(&place, &run);
        let ours: Vec<f64> = lines.iter().filter_map(|line| line["loss"].as_f64()).collect();
        let theirs = vector(&golden["losses"]);
        assert_eq!(ours.len(), theirs.len());
        for (step, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!((ours - theirs).abs() < 2e-5, "{cut:?}, step {step}: {ours} and {theirs}");
        }
        let after = lines.last().expect("an evaluation");
        let all = golden["loss_of_all_after"].as_f64().expect("a loss");
        assert!((after["val_loss"].as_f64().expect("a loss") - all).abs() < 2e-5, "{after} and {all}");
        assert_eq!(after["val_recall_at_1"], 1.0);
    }
}

#[test]
fn a_run_writes_a_folder_of_sentence_transformers() {
    let (place, _) = place();
    train(&place, "run", &["train.steps=4", "train.checkpoint_every=2", "objective.pooling=cls"]).succeeds();
    let read =
        |name: &str| -> Value { serde_json::from_str(&place.read(&format!("run/{name}"))).expect("JSON") };
    for folder in ["model", "checkpoints/step-00000004"] {
        let pooling = read(&format!("{folder}/1_Pooling/config.json"));
        assert_eq!(
            (&pooling["pooling_mode_cls_token"], &pooling["pooling_mode_mean_tokens"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(read(&format!("{folder}/sentence_bert_config.json"))["max_seq_length"], 12);
        assert_eq!(read(&format!("{folder}/modules.json")).as_array().map(Vec::len), Some(3));
        assert_eq!(read(&format!("{folder}/config.json"))["architectures"][0], "BertModel");
    }
    assert!(read("model/manifest.json")["files"]["1_Pooling/config.json"].is_object());
    // The unused pooler is kept in the folder.
    let file = std::fs::read(place.path("run/model/model.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("tensors");
    assert!(tensors.tensor("pooler.dense.weight").is_ok());
    place.train(&["--check", "run"]).succeeds();
    place.train(&["--verify", "run"]).succeeds();
    place.write("run/checkpoints/step-00000004/1_Pooling/config.json", "{}");
    assert!(place.train(&["--check", "run"]).code != 0);
}

#[test]
fn resume_is_bit_exact_for_pairs_on_any_number_of_threads() {
    let place = Place::new();
    let digest = |run: &str, more: &[&str], resume: bool| {
        let sets = [
            "train.batch_rows=6",
            "train.accumulate=2",
            "train.shards=3",
            "train.eval_every=0",
            "schedule.warmup_steps=1",
            "data.validation_rows=9",
        ];
        let mut args = vec!["--config", "embed-mini.toml", "--quiet", "--json", "--out", run];
        sets.iter().chain(more).for_each(|set| args.extend(["--set", set]));
        if resume {
            args.push("--resume");
        }
        place.train(&args).succeeds().json()["digest"].clone()
    };
    let whole = digest("whole", &["train.steps=6", "train.threads=1"], false);
    assert_eq!(digest("other", &["train.steps=6", "train.threads=3"], false), whole);
    digest("part", &["train.steps=4", "schedule.total_steps=6", "train.threads=2"], false);
    assert_eq!(
        digest("part", &["train.steps=6", "schedule.total_steps=6"], true),
        digest("sixth", &["train.steps=6", "schedule.total_steps=6"], false)
    );
}

#[test]
fn a_text_has_the_same_embedding_alone_in_rows_and_explained() {
    let (place, golden) = place();
    let texts: Vec<&str> =
        golden["texts"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
    let wanted = golden["normalized"]["mean"].as_array().expect("vectors");
    let explain =
        |args: &[&str]| place.run(env!("CARGO_BIN_EXE_explain"), &[&["--model", "sentence"], args].concat());
    for (text, wanted) in texts.iter().zip(wanted) {
        let said = explain(&["--text", text, "--json"]).succeeds().json();
        assert!(off(&said["embedding"], wanted) < 1e-5, "{said}");
        let said = sample(&place, &["--model", "sentence", "--prompt", text, "--json"]).succeeds().json();
        assert!(off(&said["embedding"], wanted) < 1e-5, "{said}");
    }
    // The last text is longer than the folder's maximum.
    assert!(explain(&["--text", texts[2]]).succeeds().stderr.contains("dropped"));
    let page = explain(&["--text", texts[0]]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains("the mean of its tokens' last vectors, at length 1"), "{page}");
    place.write("texts.txt", texts.join("\n"));
    let rows = sample(&place, &["--model", "sentence", "--prompt-file", "texts.txt", "--json"]);
    assert!(rows.succeeds().stderr.contains("cut to the context of 12 tokens"), "{}", rows.stderr);
    let lines: Vec<Value> =
        rows.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), texts.len());
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(off(&line["embedding"], wanted) < 1e-5, "{line}");
    }
    let table = sample(&place, &["--model", "sentence", "--prompt-file", "texts.txt"]);
    let first: Vec<&str> = table.succeeds().stdout.lines().nth(1).expect("a row").split('\t').collect();
    let numbers: Vec<f64> = first[1].split(' ').map(|number| number.parse().expect("a number")).collect();
    assert!(off(&json!(numbers), &wanted[0]) < 1e-5);
    assert_eq!((first[0], first[2]), ("1", texts[0]));
    let line = sample(&place, &["--model", "sentence", "--prompt", texts[0]]);
    assert_eq!(line.succeeds().stdout.trim_end(), first[1]);
    sample(&place, &["--model", "sentence", "--prompt", texts[0], "-n", "4"]).fails(2, &["embeds texts"]);
    sample(&place, &["--model", "sentence", "--prompt", ""]).fails(2, &["embeds a text"]);
}

#[test]
fn unsuitable_settings_for_pairs_are_refused_with_their_location() {
    let (place, _) = place();
    let refused = |sets: &[&str], words: &[&str]| train(&place, "run", sets).fails(2, words);
    refused(&["train.batch_rows=1"], &["train.batch_rows", "has no negatives"]);
    refused(&["train.batch_rows=7"], &["a step takes 7 pairs", "data.train has 6"]);
    refused(&["objective.pooling=median"], &["objective.pooling", "median", "weightedmean"]);
    refused(&["train.film=true", "train.probes=[\"snow falls\"]"], &["train.film", "predicts none"]);
    refused(&["objective.scale=0"], &["objective.scale", "above 0"]);
    refused(
        &["objective.mask_share=0.5", "objective.kind=contrastive"],
        &["objective.mask_share", "has no effect"],
    );
    refused(&["data.pair_column=reply"], &["reply"]);
    let from_scratch = |sets: &[&str], words: &[&str]| {
        let mut args = vec!["--config", "embed-mini.toml", "--out", "run"];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        place.train(&args).fails(2, words);
    };
    from_scratch(&["model.family=gpt2"], &["objective.kind", "needs a model with full attention", "bert"]);
    from_scratch(&["train.batch_rows=1"], &["train.batch_rows = 1", "2 or more"]);
    from_scratch(&["data.kind=text"], &["data.kind", "pairs of texts"]);
    from_scratch(&["data.rows=windows"], &["data.rows"]);
    from_scratch(
        &["objective.kind=classify"],
        &["objective.pooling", "only objective.kind = \"contrastive\""],
    );
    place.write("one.toml", PAIRS.replace("pair_column = \"answer\"\n", ""));
    place.train(&["--config", "one.toml"]).fails(2, &["data.pair_column", "only one column is set"]);
    let gpt2 = fixtures().join("gpt2-one").display().to_string();
    refused(
        &[&format!("train.init_from={gpt2}"), "objective.kind=contrastive"],
        &["needs a model with full attention"],
    );
    std::fs::remove_file(place.path("sentence/1_Pooling/config.json")).expect("a file");
    assert_ne!(train(&place, "run", &[]).code, 0);
    assert!(train(&place, "run", &[]).stderr.contains("1_Pooling"));
}

#[test]
fn a_masked_model_becomes_an_embedding_model() {
    let (place, _) = place();
    let masked = fixtures().join("bert-mlm");
    for name in ["config.json", "model.safetensors"] {
        place.write(&format!("masked/{name}"), std::fs::read(masked.join(name)).expect("a file"));
    }
    let sets = [
        "train.init_from=masked",
        "objective.kind=contrastive",
        "train.steps=2",
        "objective.normalize=false",
    ];
    train(&place, "run", &sets).succeeds();
    let modules: Value = serde_json::from_str(&place.read("run/model/modules.json")).expect("JSON");
    assert_eq!(modules.as_array().map(Vec::len), Some(2));
}

/// The embeddings of sentence-transformers.
const ENCODE: &str = r#"
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = json.loads(sys.argv[2])
print(json.dumps({"vectors": model.encode(texts).tolist(), "max": model.max_seq_length}))
"#;

fn encoded(folder: &Path, texts: &[&str]) -> Value {
    let python =
        std::env::var_os("VULPES_PYTHON").expect("VULPES_PYTHON names a Python with sentence-transformers");
    let texts = json!(texts).to_string();
    let output = Command::new(python).args(["-c", ENCODE]).arg(folder).arg(texts).output().expect("it runs");
    let said = Said::of(&output);
    said.succeeds();
    serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON")
}

mod needs_sentence_transformers {
    use super::*;

    #[test]
    #[ignore = "needs VULPES_PYTHON with sentence-transformers"]
    fn sentence_transformers_reads_the_folder_of_a_run() {
        let (place, golden) = place();
        let texts: Vec<&str> =
            golden["texts"].as_array().expect("texts").iter().filter_map(Value::as_str).collect();
        place.write("texts.txt", texts.join("\n"));
        for pooling in ["cls", "mean", "mean_sqrt_len_tokens", "weightedmean", "max", "lasttoken"] {
            for normalize in ["true", "false"] {
                let run = format!("{pooling}-{normalize}");
                let sets = [
                    "train.steps=2".to_owned(),
                    format!("objective.pooling={pooling}"),
                    format!("objective.normalize={normalize}"),
                ];
                train(&place, &run, &sets.each_ref().map(String::as_str)).succeeds();
                let theirs = encoded(&place.path(&format!("{run}/model")), &texts);
                assert_eq!(theirs["max"], 12);
                let rows = sample(&place, &["--model", &run, "--prompt-file", "texts.txt", "--json"]);
                for (line, theirs) in
                    rows.succeeds().stdout.lines().zip(theirs["vectors"].as_array().expect("rows"))
                {
                    let ours: Value = serde_json::from_str(line).expect("JSON");
                    let off = off(&ours["embedding"], theirs);
                    assert!(off < 1e-5, "{run}: {off}");
                }
            }
        }
    }

    #[test]
    #[ignore = "needs VULPES_PYTHON with sentence-transformers"]
    fn sentence_transformers_reads_a_model_from_scratch() {
        let place = Place::new();
        place.train(&["--config", "embed-mini.toml", "--out", "run", "--set", "train.steps=40"]).succeeds();
        let texts = ["The doctor buys a car.", "Some physician purchases this automobile."];
        let theirs = encoded(&place.path("run/model"), &texts);
        for (text, theirs) in texts.iter().zip(theirs["vectors"].as_array().expect("rows")) {
            let ours = sample(&place, &["--model", "run", "--prompt", text, "--json"]).succeeds().json();
            assert!(off(&ours["embedding"], theirs) < 1e-5, "{text}");
        }
    }
}
