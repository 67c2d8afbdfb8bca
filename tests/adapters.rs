//! Runs that train an adapter: torch's losses, bit-exact resume and threads, the run's folder, refusals.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Place, fixtures};

/// Rows of the goldens, and the settings of their curves.
const CURVE: &str = r#"
[data]
kind = "ids"
train = "rows.jsonl"
validation = "rows.jsonl"

[adapter]
dropout = 0.0

[optimizer]
lr = 1e-3
betas = [0.9, 0.95]
eps = 1e-8
weight_decay = 0.1

[train]
steps = 20
batch_rows = 2
shuffle = false
eval_every = 0
checkpoint_every = 5
"#;

fn base(name: &str) -> PathBuf {
    fixtures().join("lora/bases").join(name)
}

fn json_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// A folder with the rows of an adapter's golden test.
fn place(golden: &Value) -> Place {
    let place = Place::new();
    let row = |ids: &Value| format!("{}\n", serde_json::json!({ "input_ids": ids }));
    place.write(
        "rows.jsonl",
        golden["input_ids"].as_array().expect("rows").iter().map(row).collect::<String>(),
    );
    place.write("curve.toml", CURVE);
    place
}

fn set(key: &str, value: impl std::fmt::Display) -> [String; 2] {
    ["--set".to_owned(), format!("{key}={value}")]
}

fn train(place: &Place, out: &str, more: &[String]) -> crate::support::Said {
    let mut args = vec!["--config", "curve.toml", "--out", out];
    args.extend(more.iter().map(String::as_str));
    place.train(&args)
}

fn losses(place: &Place, run: &str) -> Vec<f64> {
    let text = place.read(&format!("{run}/metrics.jsonl"));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |key: &'static str| lines.iter().filter_map(move |line| line[key].as_f64());
    of("loss").chain(of("val_loss")).collect()
}

/// Training PEFT's adapter further: the losses are torch's, and the resulting folder is an adapter again.
#[test]
fn an_adapter_trained_further_matches_torch_losses() {
    for (adapter, of) in [("llama-patterns", "llama-tiny"), ("gpt2-all-rslora-dora", "gpt2-tiny")] {
        let dir = fixtures().join("lora").join(adapter);
        let golden = json_of(&dir.join("golden.json"));
        let place = place(&golden);
        let sources =
            [set("train.init_from", base(of).display()), set("train.adapter", dir.display())].concat();
        train(&place, "run", &sources).succeeds();
        let theirs = golden["adamw"]["loss_curve_f64"].as_array().expect("a curve");
        for (step, (ours, theirs)) in losses(&place, "run").iter().zip(theirs).enumerate() {
            let off = (ours - theirs.as_f64().expect("a loss")).abs();
            assert!(off < 5e-5, "{adapter}: after {step} steps the loss differs by {off}");
        }
        let written = json_of(&place.path("run/model/adapter_config.json"));
        assert_eq!(written["peft_type"], "LORA");
        assert!(
            !place.path("run/model/config.json").exists()
                && !place.path("run/model/model.safetensors").exists()
        );
    }
}

/// Dropout, magnitudes, a fully trained module, recomputation, threads and a resume give one digest.
#[test]
fn adapter_training_is_bit_exact_on_any_threads_and_after_resume() {
    let golden = json_of(&fixtures().join("lora/llama-patterns/golden.json"));
    let place = place(&golden);
    let settings = [
        set("train.init_from", base("llama-tiny").display()),
        set("adapter.rank", 3),
        set("adapter.dropout", 0.2),
        set("adapter.dora", true),
        set("adapter.also_train", "[\"lm_head\"]"),
        set("train.shards", 2),
    ]
    .concat();
    let digest = |out: &str| {
        let state = json_of(&place.path(&format!("{out}/checkpoints/step-00000020/train_state.json")));
        state["digest"].as_str().expect("a digest").to_owned()
    };
    train(&place, "whole", &[settings.clone(), set("train.threads", 1).to_vec()].concat()).succeeds();
    let other =
        [settings.clone(), set("train.threads", 3).to_vec(), set("train.recompute", true).to_vec()].concat();
    train(&place, "other", &other).succeeds();
    assert_eq!(digest("whole"), digest("other"));
    train(&place, "cut", &[settings.clone(), set("train.steps", 10).to_vec()].concat()).succeeds();
    train(&place, "cut", &[settings, vec!["--resume".to_owned()]].concat()).succeeds();
    assert_eq!(digest("whole"), digest("cut"));
    assert!(place.train(&["--check", "cut"]).succeeds().stdout.contains("model: whole"));
    let verified = place.train(&["--verify", "cut", "--from", "15", "--to", "20"]);
    assert!(verified.succeeds().stdout.contains("identical"), "{}", verified.stdout);
}

/// A base model in fewer bits costs little loss, and its checkpoint can be resumed.
#[test]
fn a_quantized_base_trains_nearly_as_well() {
    let golden = json_of(&fixtures().join("lora/llama-patterns/golden.json"));
    let place = place(&golden);
    let init = set("train.init_from", base("llama-tiny").display()).to_vec();
    train(&place, "whole", &init).succeeds();
    for dtype in ["bfloat16", "q8_0"] {
        let narrow = [init.clone(), set("adapter.base_dtype", dtype).to_vec()].concat();
        train(&place, dtype, &[narrow.clone(), set("train.steps", 10).to_vec()].concat()).succeeds();
        train(&place, dtype, &[narrow.clone(), vec!["--resume".to_owned()]].concat()).succeeds();
        let (whole, narrow) = (losses(&place, "whole"), losses(&place, dtype));
        // (A stopped run has an additional evaluation.)
        for (step, (whole, narrow)) in whole.iter().zip(&narrow).take(20).enumerate() {
            assert!(
                (whole - narrow).abs() < 0.05 && whole != narrow,
                "{dtype}, step {step}: {whole} and {narrow}"
            );
        }
        // Magnitudes are the norms of the rows used in the computation, and a resume initializes nothing again.
        let more = [set("adapter.dora", true), set("train.shards", 2)].concat();
        let settings =
            [init.clone(), set("adapter.base_dtype", dtype).to_vec(), more, set("train.steps", 6).to_vec()]
                .concat();
        let one =
            train(&place, &format!("{dtype}-one"), &[settings.clone(), vec!["--json".to_owned()]].concat());
        let threads = [settings, set("train.threads", 2).to_vec(), vec!["--json".to_owned()]].concat();
        let two = train(&place, &format!("{dtype}-two"), &threads);
        assert_eq!(one.succeeds().json()["digest"], two.succeeds().json()["digest"], "{dtype}");
    }
    let wide =
        [init, set("adapter.base_dtype", "q8_0").to_vec(), set("train.dtype", "float64").to_vec()].concat();
    train(&place, "wide", &wide).fails(2, &["adapter.base_dtype other than \"float32\""]);
}

#[test]
fn contradicting_adapter_settings_are_refused_with_advice() {
    let golden = json_of(&fixtures().join("lora/llama-patterns/golden.json"));
    let place = place(&golden);
    let init = set("train.init_from", base("llama-tiny").display());
    let fails = |more: &[[String; 2]], wanted: &[&str]| train(&place, "run", &more.concat()).fails(2, wanted);
    fails(&[], &["[adapter] needs an existing model", "train.init_from"]);
    fails(
        &[init.clone(), set("adapter.targets", "nothing")],
        &["matches no module", "attention.query (q_proj)"],
    );
    fails(&[init.clone(), set("adapter.rank", 0)], &["adapter.rank"]);
    fails(&[init.clone(), set("adapter.dropout", 1)], &["adapter.dropout"]);
    fails(&[init.clone(), set("train.freeze", "[\"*\"]")], &["train.freeze has no effect with [adapter]"]);
    let adapter = set("train.adapter", fixtures().join("lora/llama-patterns").display());
    fails(
        &[init.clone(), adapter, set("adapter.rank", 5)],
        &["contradicts the existing adapter", "adapter.rank"],
    );
    let other = set("train.adapter", fixtures().join("lora/gpt2-bias").display());
    train(&place, "run", &[init.clone(), other].concat()).fails(1, &["doesn't fit the model"]);
    let groups = set("optimizer.groups", "[{parameters = [\"*.adapter.c\"], lr = 2}]");
    fails(&[init, groups], &["optimizer.groups", "matches no trained parameter"]);
}

/// Groups, patience and prompts, on a small custom model.
#[test]
fn groups_patience_and_prompts_work() {
    let place = Place::new();
    let run = |out: &str, more: &[&str]| {
        let mut args = vec!["--config", "small.toml", "--out", out];
        more.iter().for_each(|more| args.extend(["--set", more]));
        place.train(&args)
    };
    run("plain", &["train.steps=3"]).succeeds();
    run("slow", &["train.steps=3", "optimizer.groups=[{parameters=[\"*\"], lr=0.0}]"]).succeeds();
    let last = |run: &str| losses(&place, run)[2];
    assert_ne!(last("plain"), last("slow"), "a rate of 0 learns nothing");
    // A learning rate without progress: the run ends after two evaluations that are no better than the first.
    let said = run(
        "worn",
        &[
            "train.steps=400",
            "train.eval_every=1",
            "train.patience=2",
            "optimizer.lr=0.5",
            "schedule.min_lr=0",
            "optimizer.clip=0",
            "train.prompts=[\"The quick\"]",
            "sample.n=3",
        ],
    );
    said.succeeds();
    assert!(said.stderr.contains("no better evaluation since step"), "{}", said.stderr);
    let samples = place.read("worn/samples.jsonl");
    let first: Value = serde_json::from_str(samples.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (first["step"].as_u64(), first["samples"][0]["prompt"].as_str()),
        (Some(1), Some("The quick"))
    );
    run("none", &["train.patience=2", "train.metric=macro_f1"]).fails(2, &["train.metric = \"macro_f1\""]);
}
