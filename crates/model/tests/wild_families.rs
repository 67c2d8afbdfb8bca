//! Folders of other families in the wild: stale buffers, duplicate heads, multimodal models; and refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use common::{copy, fixtures, json, tensors};
use serde_json::{Value, json as value};
use tempfile::{TempDir, tempdir};
use vulpes_model::folder::{self, Loaded};
use vulpes_model::{Input, Pass};

type Tensors = HashMap<String, Tensor>;

/// A copy of a fixture with another config and other tensors.
fn changed(
    model: &str,
    config: impl Fn(&mut Value),
    change: impl Fn(Tensors) -> Tensors,
) -> (TempDir, PathBuf) {
    let out = tempdir().unwrap();
    let dir = out.path().join("model");
    copy(&fixtures().join("families").join(model), &dir);
    let mut object = json(&dir.join("config.json"));
    config(&mut object);
    std::fs::write(dir.join("config.json"), object.to_string()).unwrap();
    let changed = change(tensors(&dir.join("model.safetensors")));
    candle_core::safetensors::save(&changed, dir.join("model.safetensors")).unwrap();
    (out, dir)
}

fn logits(loaded: &Loaded) -> Vec<f32> {
    let ids: Vec<u32> = (3..13).collect();
    let input = Input::new(&ids, 2, &Device::Cpu).unwrap();
    let hidden = loaded.transformer.forward(&input, &mut Pass::inference()).unwrap();
    let logits = loaded.transformer.logits(&hidden, &mut Pass::inference()).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn original(model: &str) -> Loaded {
    folder::load(&fixtures().join("families").join(model)).unwrap()
}

fn load(dir: &Path) -> Loaded {
    folder::load(dir).unwrap_or_else(|error| panic!("{error}"))
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn stale_buffers_and_heads_stored_twice_change_nothing() {
    type Change = fn(Tensors) -> Tensors;
    let cases: &[(&str, Change)] = &[
        ("gpt_neox", |mut tensors| {
            tensors.insert("gpt_neox.layers.0.attention.bias".into(), zeros(&[1, 1, 8, 8]));
            tensors.insert("gpt_neox.layers.1.attention.masked_bias".into(), zeros(&[1]));
            tensors.insert("gpt_neox.layers.1.attention.rotary_emb.inv_freq".into(), zeros(&[2]));
            tensors
        }),
        ("roberta", |mut tensors| {
            let ids = Tensor::arange(0i64, 24, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            tensors.insert("roberta.embeddings.position_ids".into(), ids);
            let token = tensors["roberta.embeddings.word_embeddings.weight"].copy().unwrap();
            tensors.insert("lm_head.decoder.weight".into(), token);
            let bias = tensors["lm_head.bias"].copy().unwrap();
            tensors.insert("lm_head.decoder.bias".into(), bias);
            tensors
        }),
        ("distilbert", |mut tensors| {
            let token = tensors["distilbert.embeddings.word_embeddings.weight"].copy().unwrap();
            tensors.insert("vocab_projector.weight".into(), token);
            tensors
        }),
        ("modernbert", |mut tensors| {
            let token = tensors["model.embeddings.tok_embeddings.weight"].copy().unwrap();
            tensors.insert("decoder.weight".into(), token);
            tensors
        }),
        ("gemma3", |mut tensors| {
            if let Some(token) = tensors.get("model.embed_tokens.weight").cloned() {
                tensors.entry("lm_head.weight".into()).or_insert(token);
            }
            tensors
        }),
    ];
    for (model, change) in cases {
        let (_keep, dir) = changed(model, |_| (), change);
        let (found, wanted) = (load(&dir), original(model));
        assert_eq!(found.config, wanted.config, "{model}");
        assert_eq!(found.warnings, Vec::<String>::new(), "{model}");
        assert_eq!(logits(&found), logits(&wanted), "{model}");
    }
}

/// GPT-NeoX's head, under its name in transformers 5's in-memory model.
#[test]
fn a_head_is_found_under_its_other_name() {
    let untie = |config: &mut Value| config["tie_word_embeddings"] = value!(false);
    let with_head = |name: &'static str| {
        move |mut tensors: Tensors| {
            let head = tensors["gpt_neox.embed_in.weight"].affine(0.5, 0.1).unwrap();
            tensors.insert(name.into(), head);
            tensors
        }
    };
    let (_one, one) = changed("gpt_neox", untie, with_head("embed_out.weight"));
    let (_other, other) = changed("gpt_neox", untie, with_head("lm_head.weight"));
    assert_eq!(logits(&load(&one)), logits(&load(&other)));
}

/// Both prefixes of the text part of a multimodal Gemma 3.
#[test]
fn the_text_part_of_a_multimodal_model_is_read() {
    let wanted = original("gemma3");
    for prefix in ["language_model.model.", "model.language_model."] {
        let wrap = |config: &mut Value| {
            let text = config.take();
            *config = value!({
                "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
                "text_config": text, "vision_config": {"model_type": "siglip_vision_model"},
            });
        };
        let (_keep, dir) = changed("gemma3", wrap, |tensors| {
            let renamed = |(name, tensor): (String, Tensor)| match name.strip_prefix("model.") {
                Some(rest) => (format!("{prefix}{rest}"), tensor),
                None => (format!("language_model.{name}"), tensor),
            };
            let mut tensors: Tensors = tensors.into_iter().map(renamed).collect();
            tensors.insert("vision_tower.vision_model.post_layernorm.weight".into(), zeros(&[3]));
            tensors.insert("multi_modal_projector.mm_soft_emb_norm.weight".into(), zeros(&[3]));
            tensors
        });
        let found = load(&dir);
        assert_eq!(found.config, wanted.config);
        assert_eq!(logits(&found), logits(&wanted));
        assert!(found.warnings.iter().any(|said| said.contains("the text part is read")));
        // It is written as a separate model.
        let out = tempdir().unwrap();
        folder::save(out.path(), &found.transformer, &found.extra).unwrap();
        assert_eq!(json(&out.path().join("config.json"))["model_type"], "gemma3_text");
        assert_eq!(logits(&load(out.path())), logits(&wanted));
    }
}

#[test]
fn unimplemented_settings_are_refused_by_name() {
    let cases: &[(&str, &str, Value, &str)] = &[
        ("qwen2", "layer_types", value!(["chunked_attention", "full_attention"]), "\"chunked_attention\""),
        ("qwen2", "layer_types", value!(["full_attention"]), "layer_types has 1 entries for 2 layers"),
        ("qwen2", "use_sliding_window", value!(false), "layer_types has windows"),
        ("qwen3", "hidden_act", value!("mish"), "hidden_act = \"mish\""),
        ("qwen3", "rope_scaling", value!({"rope_type": "yarn", "factor": 4.0}), "\"yarn\""),
        ("granite", "architectures", value!(["GraniteForSequenceClassification"]), "GraniteForSequence"),
        ("phi", "partial_rotary_factor", value!(0.3), "rotates 3 of 10 channels"),
        ("smollm3", "no_rope_layers", value!([1]), "no_rope_layers has 1 entries for 3 layers"),
        (
            "gemma3",
            "rope_parameters",
            value!({"rope_type": "default"}),
            "rope_parameters is not an object of",
        ),
        ("roberta", "pad_token_id", Value::Null, "pad_token_id is null"),
        ("roberta", "max_position_embeddings", value!(1), "leaves no position"),
        ("roberta", "is_decoder", value!(true), "is_decoder"),
        ("mpnet", "relative_attention_num_buckets", value!(16), "at least 32"),
        ("modernbert", "classifier_pooling", value!("max"), "classifier_pooling = \"max\""),
        ("modernbert", "architectures", value!(["ModernBertForTokenClassification"]), "TokenClassification"),
        ("llama-cls", "problem_type", value!("regression"), "regression"),
    ];
    for (model, key, wrong, wanted) in cases {
        let change = |config: &mut Value| {
            if *key == "partial_rotary_factor" {
                config["rope_parameters"][*key] = wrong.clone();
            } else {
                config[*key] = wrong.clone();
            }
        };
        let (_keep, dir) = changed(model, change, |tensors| tensors);
        let said = folder::load(&dir).map(|_| ()).expect_err(key).to_string();
        assert!(said.contains(wanted), "{key}: {said}");
    }
}
