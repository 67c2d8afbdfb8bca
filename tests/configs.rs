//! Every file of `configs/` is valid, built into the program, and plans a run.

use std::path::{Path, PathBuf};
use std::process::Command;

use vulpes_runs::{EMBEDDED, Plan, PlanOptions, RunConfig};

use crate::support::{Place, Said};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let entries = [folder.clone(), folder.join("lessons")]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).expect("configs"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

#[test]
fn built_in_configs_equal_their_files() {
    let mut built_in: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
    built_in.sort_unstable();
    let name_of = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.parent().is_some_and(|folder| folder.ends_with("lessons")) {
            format!("lessons/{name}")
        } else {
            name
        }
    };
    let names: Vec<String> = files().iter().map(name_of).collect();
    assert_eq!(built_in, names, "list every config in crates/runs/src/embedded.rs");
    for (path, name) in files().iter().zip(&names) {
        let text = std::fs::read_to_string(path).expect("text");
        assert!(EMBEDDED.iter().any(|(known, theirs)| known == name && *theirs == text), "{name}");
    }
}

/// In an empty folder: corpus and config come from the program itself.
#[test]
fn configs_with_embedded_corpora_plan_a_run() {
    let place = Place::new();
    for (name, text) in EMBEDDED {
        let config = RunConfig::parse(name, text, &[]).unwrap_or_else(|faults| panic!("{faults}"));
        if !config.train.is_from_scratch()
            || !config.data.train.0.iter().all(|path| vulpes_data::embedded(path).is_some())
        {
            continue;
        }
        let said = place.train(&["--config", name, "--dry-run"]);
        assert!(said.succeeds().stdout.contains("parameters"), "{name}");
    }
}

#[test]
fn every_built_in_config_is_listed() {
    let place = Place::new();
    let listed = place.train(&["--list"]);
    for (name, _) in EMBEDDED {
        assert!(listed.succeeds().stdout.contains(&format!("{name} ")), "{name}\n{}", listed.stdout);
    }
    assert_eq!(
        place.train(&["--list", "--json"]).json()["configs"].as_array().expect("a list").len(),
        EMBEDDED.len()
    );
    // Each is started by any of its names, in an empty folder.
    for name in ["fox", "01-weights", "lessons/08-classify"] {
        assert!(place.train(&["--config", name, "--dry-run"]).succeeds().stdout.contains("parameters"));
    }
}

/// bfloat16 is chosen for speed, which only some processors have.
#[test]
fn plan_reports_that_bfloat16_saves_no_time_on_this_processor() {
    let place = Place::new();
    let plan = |dtype: &str| {
        let set = format!("train.dtype={dtype}");
        let mut command = place.command(&["--config", "small.toml", "--dry-run", "--set", &set]);
        Said::of(&command.env("VULPES_SIMD", "plain").output().expect("a plan")).succeeds().stdout.clone()
    };
    assert!(plan("bfloat16").contains("note        bf16 saves memory but no time here"));
    assert!(!plan("float32").contains("note "));
}

#[test]
fn config_file_takes_precedence_over_the_built_in_one() {
    let place = Place::new();
    let steps = |wanted: u64| {
        let plan = place.train(&["--config", "fox.toml", "--dry-run", "--json"]).json();
        assert_eq!(plan["steps"], wanted);
    };
    let text = EMBEDDED.iter().find(|(name, _)| *name == "fox.toml").expect("the fox").1;
    let with = |n: u64| {
        let config = RunConfig::parse("fox.toml", text, &[format!("train.steps={n}")]).expect("sound");
        config.to_toml().expect("TOML")
    };
    place.write("configs/fox.toml", with(77));
    steps(77);
    place.write("fox.toml", with(78));
    steps(78);
}

/// A config with differing layers can be trained, sampled from and explained.
#[test]
fn layers_of_a_config_may_differ() {
    let place = Place::new();
    let layers = "model.layers=[{ window = 2, rope_theta = 500.0 }, { positions = \"none\" }]";
    let sets =
        ["model.positions=rotary", "model.n_layer=3", layers, "train.steps=2", "schedule.warmup_steps=1"];
    let mut args = vec!["--config", "fox-multihead.toml", "--out", "run", "--quiet"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    place.train(&args).succeeds();
    let config: serde_json::Value = serde_json::from_str(&place.read("run/model/config.json")).expect("JSON");
    assert_eq!(config["model_type"], "vulpes", "transformers has no class for it");
    assert_eq!(config["model"]["layers"][0]["window"], 2);

    let explain = Command::new(env!("CARGO_BIN_EXE_explain"))
        .args(["--model", "run", "--text", "The quick brown fox", "--json"])
        .current_dir(place.path(""))
        .output()
        .expect("explain runs");
    let said = Said::of(&explain);
    let explained = said.succeeds().json();
    // The first and third layer see two tokens, the second all previous ones.
    assert_eq!(explained["kinds"], serde_json::json!([0, 1, 0]));
    assert_eq!(explained["masks"][0][3], serde_json::json!([0, 0, 1, 1]));
    assert_eq!(explained["masks"][1][3], serde_json::json!([1, 1, 1, 1]));
    assert_eq!(explained["attentions"][0][0][3][0], 0.0);
    assert!(explained["attentions"][1][0][3][0].as_f64().expect("a weight") > 0.0);

    let wrong = ["--config", "fox-multihead.toml", "--dry-run", "--set", "model.layers=[{ window = 0 }]"];
    place.train(&wrong).fails(2, &["model.layers[0].window = 0 leaves no keys to attend to", "--> --set:1:"]);
}

#[test]
fn a_config_built_in_code_is_checked_like_one_from_a_file() {
    let text = EMBEDDED.iter().find(|(name, _)| *name == "fox.toml").expect("the fox").1;
    let mut config = RunConfig::parse("fox.toml", text, &[]).expect("sound");
    let options =
        PlanOptions { device: Some("cpu".to_owned()), run_dir: PathBuf::new(), ..PlanOptions::default() };
    assert!(Plan::new(config.clone(), &options, &()).is_ok());
    config.train.steps = 0;
    config.train.shards = Some(9999);
    config.optimizer.lr = f64::NAN;
    let error = Plan::new(config, &options, &()).err().expect("three faults");
    assert_eq!(error.exit_code(), 2);
    for wanted in ["train.steps = 0 must", "train.shards = 9999 is more than", "optimizer.lr = NaN must"] {
        assert!(error.to_string().contains(wanted), "{wanted} is not in\n{error}");
    }
}
