//! The switches of recent small decoders: initialization, bigrams, value embeddings.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use candle_core::{DType, Device};
use support::*;
use vulpes_model::{KvCache, ModelConfig, Pass, Transformer, folder, parameter_specs};

fn with(change: impl Fn(&mut ModelConfig)) -> ModelConfig {
    let mut config = modern();
    change(&mut config);
    config
}

/// Branches initialized to zeros add nothing at first, and such a head outputs nothing.
#[test]
fn zero_initialized_branches_and_heads_have_no_effect_at_first() {
    let init = |config: &ModelConfig| Transformer::init(config, 3, DType::F32, &Device::Cpu).unwrap();
    let silent = init(&with(|c| c.head_init = 0.0));
    let ids = input(&[1, 4, 2, 9], 1);
    assert!(values(&logits(&silent, &ids)).iter().all(|logit| *logit == 0.0));
    let hidden = |config: &ModelConfig| values(&init(config).forward(&ids, &mut Pass::inference()).unwrap());
    let (two, none) = (with(|_| ()), with(|c| c.value_embeddings = 0));
    assert_eq!(hidden(&two), hidden(&none), "attention's output is not added yet");
    assert_ne!(hidden(&with(|c| c.branch_init = None)), hidden(&two));
    let spread = |factor: f64| {
        let model = init(&with(|c| c.embedding_init = factor));
        let table = values(model.parameters().get("embedding.token.weight").unwrap().as_tensor());
        table.iter().map(|x| x * x).sum::<f64>().sqrt()
    };
    assert!((spread(4.0) / spread(1.0) - 4.0).abs() < 1e-6);
}

/// Every second layer from the last has value embeddings; the norms have no parameters.
#[test]
fn parameters_match_the_switches() {
    let names = |config: &ModelConfig| -> Vec<String> {
        parameter_specs(config).into_iter().map(|spec| spec.name).collect()
    };
    let found = names(&modern());
    let tables: Vec<&String> = found.iter().filter(|name| name.contains("value_embedding")).collect();
    assert_eq!(tables, ["blocks.1.attention.value_embedding.weight"]);
    assert!(!found.iter().any(|name| name.contains("norm")), "{found:?}");
    assert!(found.contains(&"embedding.bigram.weight".to_owned()));
    let plain = with(|c| (c.bigrams, c.value_embeddings) = (false, 0));
    assert_eq!(names(&plain).len() + 2, found.len());
}

/// A text that is read in chunks is read as in one piece.
#[test]
fn bigrams_continue_across_chunks_of_a_text() {
    let model = shaken_on(&modern(), DType::F64, &Device::Cpu);
    let ids = [1, 4, 2, 9, 7, 3, 5, 10];
    let whole = logits(&model, &input(&ids, 1));
    let mut cache = KvCache::of(model.config());
    let mut found = Vec::new();
    for piece in [&ids[..3], &ids[3..4], &ids[4..]] {
        let hidden = model.forward(&input(piece, 1), &mut Pass::cached(&mut cache)).unwrap();
        found.extend(values(&model.logits(&hidden, &mut Pass::inference()).unwrap()));
    }
    assert_close(&found, &values(&whole), 1e-12);
}

/// Nothing precedes the first token of a row or a document, nor one after padding.
#[test]
fn bigrams_restart_with_each_document() {
    let model = shaken_on(&modern(), DType::F64, &Device::Cpu);
    let second = values(&logits(&model, &input(&[7, 3, 5], 1)));
    let places = [0, 1, 2, 0, 1, 2];
    let packed = input(&[1, 4, 2, 7, 3, 5], 1).with_positions(&places).unwrap();
    let packed = packed.with_segments([0, 0, 0, 1, 1, 1].into());
    assert_close(&at(&logits(&model, &packed), 0, 3..6), &second, 1e-12);
    let padded = input(&[1, 4, 2, 7, 3, 5], 1).with_positions(&places).unwrap();
    let padded = padded.with_padding_mask([0, 0, 0, 1, 1, 1].into());
    assert_close(&at(&logits(&model, &padded), 0, 3..6), &second, 1e-12);
}

/// No class of transformers has these layers: the folder is in Vulpes' own layout, and contains everything.
#[test]
fn modern_switches_round_trip_through_a_folder() {
    let model = shaken_on(&modern(), DType::F32, &Device::Cpu);
    let dir = tempfile::tempdir().unwrap();
    folder::save(dir.path(), &model, &folder::Extra::default()).unwrap();
    let loaded = folder::load(dir.path()).unwrap();
    assert_eq!(loaded.config, modern());
    let ids = input(&[1, 4, 2, 9], 1);
    assert_eq!(values(&logits(&loaded.transformer, &ids)), values(&logits(&model, &ids)));
    assert!(folder::in_transformers(model.config()).is_none());
}
