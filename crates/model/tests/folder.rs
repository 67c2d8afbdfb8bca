//! Model folders: all forms found in the wild load, and what was loaded saves to the same bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[macro_use]
mod common;

use std::path::{Path, PathBuf};

use common::{copy, fixtures, json, name, raw};
use tempfile::tempdir;
use vulpes_model::config::{Head, NormKind};
use vulpes_model::folder::{self, LoadOptions};

fn load(dir: &Path) -> folder::Loaded {
    folder::load(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

fn load_and_save_keep_every_tensor_byte_for_byte(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let loaded = load(&dir);
        assert_eq!((&loaded.warnings, &loaded.newly_initialized), (&vec![], &vec![]), "{}", name(&dir));
        let out = tempdir().unwrap();
        folder::save(out.path(), &loaded.transformer, &loaded.extra).unwrap();
        let (before, after) =
            (raw(&dir.join("model.safetensors")), raw(&out.path().join("model.safetensors")));
        assert_eq!(before.len(), after.len(), "{}", name(&dir));
        for (tensor, value) in &before {
            assert!(after.get(tensor) == Some(value), "{}: {tensor} changed", name(&dir));
        }
        let again = load(out.path());
        assert_eq!((&again.config, &again.extra), (&loaded.config, &loaded.extra), "{}", name(&dir));
        let (had, has) = (json(&dir.join("config.json")), json(&out.path().join("config.json")));
        for key in had.as_object().unwrap().keys() {
            let same = match key.as_str() {
                // Written where they had been null or absent: summaries belong to another model.
                "n_inner" | "transformers_version" | "problem_type" => true,
                // Another spelling of the same.
                "max_window_layers" | "no_rope_layer_interval" => true,
                // A window that no layer has.
                "sliding_window" if has[key].is_null() => true,
                // Not part of the model: training settings, unused tokens, another spelling of layer_types.
                "sparse_prediction" | "sparse_pred_ignore_index" | "deterministic_flash_attn" => true,
                "initializer_cutoff_factor" | "cls_token_id" | "sep_token_id" | "_sliding_window_pattern" => {
                    true
                }
                "classifier_dropout" | "is_decoder" => true,
                key => {
                    let as_number = |value: &serde_json::Value| value.as_f64();
                    key.starts_with("summary_")
                        || had[key] == has[key]
                        || as_number(&had[key]).is_some() && as_number(&had[key]) == as_number(&has[key])
                }
            };
            let labels = key == "id2label" || key == "label2id";
            assert!(same || labels, "{}: {key} was {} and is {}", name(&dir), had[key], has[key]);
        }
    }
}

fn every_file_variant_saves_the_same_twice(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let loaded = load(&dir);
        let out = tempdir().unwrap();
        let (one, two) = (out.path().join("one"), out.path().join("two"));
        folder::save(&one, &loaded.transformer, &loaded.extra).unwrap();
        let again = load(&one);
        assert_eq!(again.config, loaded.config, "{}", name(&dir));
        folder::save(&two, &again.transformer, &again.extra).unwrap();
        for file in ["model.safetensors", "config.json"] {
            let same = std::fs::read(one.join(file)).unwrap() == std::fs::read(two.join(file)).unwrap();
            assert!(same, "{}: {file}", name(&dir));
        }
    }
}

#[test]
fn unused_heads_are_reported_and_stale_buffers_are_not() {
    let warnings = |variant: &str| load(&fixtures().join("variants").join(variant)).warnings;
    let pooler_and_next_sentence = warnings("bert-mlm--gamma-beta").join("\n");
    for tensor in ["bert.pooler.dense.weight", "bert.pooler.dense.bias", "cls.seq_relationship.weight"] {
        assert!(pooler_and_next_sentence.contains(tensor), "{pooler_and_next_sentence}");
    }
    assert!(!pooler_and_next_sentence.contains("position_ids"), "{pooler_and_next_sentence}");
    assert_eq!(warnings("gpt2-one--hub-keys"), Vec::<String>::new());
    assert_eq!(warnings("llama-stretched--rotary-buffers"), Vec::<String>::new());
}

#[test]
fn head_stored_separately_with_other_values_is_not_tied() {
    let out = tempdir().unwrap();
    let dir = out.path().join("model");
    copy(&fixtures().join("gpt2-one"), &dir);
    let mut tensors = common::tensors(&dir.join("model.safetensors"));
    let head = tensors["transformer.wte.weight"].affine(2.0, 0.0).unwrap();
    tensors.insert("lm_head.weight".into(), head);
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
    let loaded = load(&dir);
    assert!(!loaded.config.tied_head);
    assert!(loaded.warnings[0].contains("lm_head.weight"), "{:?}", loaded.warnings);
}

#[test]
fn new_head_loads_what_fits_and_draws_the_rest_from_the_seed() {
    let dir = fixtures().join("bert-mlm");
    let options =
        |seed| LoadOptions { head: Some(Head::Classify { n_labels: 4 }), seed, ..LoadOptions::default() };
    let loaded = folder::load_with(&dir, &options(3)).unwrap();
    assert_eq!(loaded.config.head, Head::Classify { n_labels: 4 });
    assert_eq!(
        loaded.newly_initialized,
        ["head.pooler.weight", "head.pooler.bias", "head.classifier.weight", "head.classifier.bias"]
    );
    assert!(loaded.warnings[0].contains("cls.predictions.transform.dense.weight"), "{:?}", loaded.warnings);
    let draw = |seed| {
        let loaded = folder::load_with(&dir, &options(seed)).unwrap();
        loaded
            .transformer
            .parameters()
            .get("head.classifier.weight")
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
    };
    assert_eq!(draw(3).unwrap(), draw(3).unwrap());
    assert_ne!(draw(3).unwrap(), draw(4).unwrap());
    // The folder's pooler is kept.
    let loaded = folder::load_with(&fixtures().join("bert-cls"), &options(0)).unwrap();
    assert_eq!(loaded.newly_initialized, ["head.classifier.weight", "head.classifier.bias"]);
}

#[test]
fn gpt2_without_the_scale_stays_gpt2() {
    let out = tempdir().unwrap();
    let dir = out.path().join("model");
    copy(&fixtures().join("gpt2-one"), &dir);
    let mut config = json(&dir.join("config.json"));
    config["scale_attn_weights"] = false.into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let loaded = load(&dir);
    assert_eq!(loaded.config.scale(), 1.0);
    folder::save(&dir, &loaded.transformer, &loaded.extra).unwrap();
    assert_eq!(
        (&json(&dir.join("config.json"))["scale_attn_weights"], load(&dir).config),
        (&false.into(), loaded.config)
    );
}

#[test]
fn config_without_a_transformers_class_is_saved_in_our_layout() {
    let loaded = load(&fixtures().join("llama-plain"));
    let mut config = loaded.config.clone();
    config.window = Some(4);
    let transformer =
        vulpes_model::Transformer::from_parameters(&config, loaded.transformer.parameters().clone()).unwrap();
    let out = tempdir().unwrap();
    folder::save(out.path(), &transformer, &loaded.extra).unwrap();
    assert_eq!(json(&out.path().join("config.json"))["model_type"], "vulpes");
    let again = load(out.path());
    assert_eq!((again.config.clone(), &again.extra), (config, &loaded.extra));
    assert_eq!(again.config.norm, NormKind::Rms);
    for (name, var) in loaded.transformer.parameters().iter() {
        let floats = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(floats(var), floats(again.transformer.parameters().get(name).unwrap()), "{name}");
    }
}

#[test]
fn written_files_have_the_format_tag_and_ordinary_permissions() {
    let loaded = load(&fixtures().join("gpt2-one"));
    let out = tempdir().unwrap();
    folder::save(out.path(), &loaded.transformer, &loaded.extra).unwrap();
    let file = std::fs::read(out.path().join("model.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&file).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = out.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&out.path().join("model.safetensors")), mode(&plain));
    }
    let left: Vec<_> = std::fs::read_dir(out.path()).unwrap().map(|e| name(&e.unwrap().path())).collect();
    assert!(left.iter().all(|file| !file.contains("unfinished")), "{left:?}");
}

#[test]
fn run_folder_resolves_to_its_model_else_its_latest_checkpoint() {
    let out = tempdir().unwrap();
    let run = out.path().join("run");
    let step = run.join("checkpoints/step-00000010");
    copy(&fixtures().join("gpt2-one"), &step);
    std::fs::write(run.join("checkpoints/latest"), "step-00000010\n").unwrap();
    assert_eq!(folder::resolve(&run).unwrap(), step);
    assert_eq!(folder::resolve(&run.join("checkpoints")).unwrap(), step);
    assert_eq!(folder::resolve(&run.join("checkpoints/latest")).unwrap(), step);
    copy(&fixtures().join("gpt2-one"), &run.join("model"));
    assert_eq!(folder::resolve(&run).unwrap(), run.join("model"));
    assert_eq!(folder::resolve(&step).unwrap(), step);
    std::fs::write(run.join("checkpoints/latest"), "../../../elsewhere").unwrap();
    assert!(folder::resolve(&run.join("checkpoints")).is_err());
}

tests_of_folders! {
    load_and_save_keep_every_tensor_byte_for_byte(goldens);
}

mod file_variants {
    use super::*;

    tests_of_folders! {
        but_families
        every_file_variant_saves_the_same_twice(variants);
    }
}

/// transformers' layout of a family is used only if it can express everything.
#[test]
fn every_config_setting_round_trips_through_its_folder() {
    use vulpes_model::config::{BlockKind, Family, FeedForwardKind, LayerOverride, MaskKind, Positions};
    use vulpes_model::{ModelConfig, ModelSection, Transformer};
    type Change = fn(&mut ModelConfig);
    let changes: &[(&str, Change)] = &[
        ("nothing", |_| {}),
        ("window", |c| c.window = Some(3)),
        ("layers", |c| c.layers = vec![LayerOverride { window: Some(2), ..LayerOverride::default() }]),
        ("block", |c| c.block = if c.block == BlockKind::Pre { BlockKind::Post } else { BlockKind::Pre }),
        ("norm", |c| c.norm = if c.norm == NormKind::Rms { NormKind::Layer } else { NormKind::Rms }),
        ("positions", |c| c.positions = Positions::None),
        ("relu2", |c| c.feed_forward = FeedForwardKind::Relu2),
        ("swiglu", |c| c.feed_forward = FeedForwardKind::Swiglu),
        ("none", |c| (c.feed_forward, c.d_ff) = (FeedForwardKind::None, 0)),
        ("scale", |c| c.attention_scale = Some(0.3)),
        ("unscaled", |c| c.attention_scale = Some(1.0)),
        ("attention bias", |c| c.attention_bias = !c.attention_bias),
        ("feed-forward bias", |c| c.feed_forward_bias = !c.feed_forward_bias),
        ("tied", |c| c.tied_head = !c.tied_head),
        ("token types", |c| c.n_token_type = 3),
        ("groups", |c| c.n_kv_head = 1),
        ("head width", |c| c.d_head = 6),
        ("dropout", |c| c.dropout = 0.25),
        ("first values", |c| c.init_std = 0.125),
        ("theta", |c| c.rope_theta = 500.0),
        ("mask", |c| c.mask = MaskKind::Full),
        ("fraction", |c| c.rotary_fraction = 0.5),
        ("stretched", |c| c.rope_scaling = Some(vulpes_model::config::RopeScaling::linear(2.5))),
        ("query and key norms", |c| c.qk_norm = vulpes_model::config::QkNorm::Head),
        ("norms of all heads", |c| c.qk_norm = vulpes_model::config::QkNorm::Whole),
        ("output bias", |c| c.attention_output_bias = Some(!c.attention_bias)),
        ("branches", |c| c.residual_multiplier = 0.5),
        ("embedding", |c| c.embedding_scale = 1.5),
        ("embedding norm", |c| c.embedding_norm = Some(c.block != BlockKind::Post)),
        ("first norm", |c| c.skip_first_norm = !c.skip_first_norm),
        ("head bias", |c| c.head_bias = Some(c.head == Head::NextToken)),
        ("dense bias", |c| c.head_dense_bias = !c.head_dense_bias),
        ("head activation", |c| c.head_activation = Some(vulpes_model::config::ActivationKind::Relu)),
        ("divisor", |c| c.logit_divisor = 3.0),
        ("cap", |c| c.logit_softcap = Some(7.0)),
        ("parallel", |c| c.block = BlockKind::Parallel),
        ("shared", |c| c.block = BlockKind::ParallelShared),
        ("reordered", |c| c.block = BlockKind::Reordered),
        ("sandwich", |c| c.block = BlockKind::Sandwich),
        ("scales above 1", |c| c.norm = NormKind::RmsPlusOne),
        ("norms without a scale", |c| c.norm = NormKind::RmsBare),
        ("vectors of pairs", |c| c.bigrams = true),
        ("vectors for values", |c| c.value_embeddings = 2),
        ("relative", |c| c.relative_bias = Some(33)),
        ("counted", |c| (c.positions, c.pad_id) = (Positions::Counted, Some(2))),
        ("padding", |c| c.pad_id = Some(3)),
        ("relu", |c| c.feed_forward = FeedForwardKind::Relu),
        ("reglu", |c| c.feed_forward = FeedForwardKind::Reglu),
    ];
    let families = [
        Family::Fox,
        Family::Gpt2,
        Family::Bert,
        Family::Llama,
        Family::Qwen2,
        Family::Qwen3,
        Family::Olmo2,
        Family::Smollm3,
        Family::Granite,
        Family::GptNeox,
        Family::Phi,
        Family::Gemma3,
        Family::Roberta,
        Family::XlmRoberta,
        Family::Distilbert,
        Family::Mpnet,
        Family::Modernbert,
    ];
    for family in families {
        for (what, change) in changes {
            let small = ModelSection {
                family: Some(family),
                n_layer: Some(2),
                n_head: Some(2),
                d_model: Some(8),
                context_len: Some(6),
                ..ModelSection::default()
            };
            let is_encoder = small.resolve(9, Head::NextToken).mask == MaskKind::Full;
            let head = if is_encoder { Head::MaskedToken } else { Head::NextToken };
            let mut config = small.resolve(9, head);
            change(&mut config);
            if !config.faults().is_empty() {
                continue;
            }
            let cpu = candle_core::Device::Cpu;
            let model = Transformer::init(&config, 1, candle_core::DType::F32, &cpu).unwrap();
            let out = tempdir().unwrap();
            folder::save(out.path(), &model, &folder::Extra::default()).unwrap();
            // A layer's overrides may be spelled differently.
            let config = ModelSection::from(&config).resolve(9, head);
            assert_eq!(load(out.path()).config, config, "{family:?}, {what}");
            let written = json(&out.path().join("config.json"))["model_type"].clone();
            if *what == "nothing" {
                let usual = if family == Family::Fox { "vulpes".into() } else { serde_json::json!(family) };
                assert_eq!(written, usual);
            }
            let few = [Family::Fox, Family::Gpt2, Family::Bert, Family::Llama].contains(&family);
            if few && ["window", "layers", "block", "norm", "positions"].contains(what) {
                assert_eq!(written, "vulpes", "{family:?}, {what}");
            }
        }
    }
}
