//! Probes see the values that the model uses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use support::*;
use vulpes_model::{Pass, Recorder, Site};

#[test]
fn probing_changes_no_bit() {
    for config in [fox(), multihead(), bert(), llama()] {
        let model = shaken(&config);
        let row = input(&[3, 1, 4, 1], 1);
        let mut recorder = Recorder::everything();
        let hidden = model.forward(&row, &mut Pass::probed(&mut recorder)).unwrap();
        assert_eq!(values(&hidden), values(&model.forward(&row, &mut Pass::inference()).unwrap()));
        assert_eq!(values(recorder.get(Site::Hidden).unwrap()), values(&hidden));
    }
}

#[test]
fn attention_rows_sum_to_one_and_yield_the_context() {
    let config = multihead();
    let model = shaken(&config);
    let mut recorder = Recorder::everything();
    model.forward(&input(&[3, 1, 4, 1], 1), &mut Pass::probed(&mut recorder)).unwrap();
    for layer in 0..config.n_layer {
        let weights = recorder.get(Site::AttentionWeights(layer)).unwrap();
        assert_eq!(weights.dims(), [1, config.n_head, 4, 4]);
        assert_close(&values(&weights.sum(3).unwrap()), &[1.0; 8], 1e-12);
        let value_bhsk =
            recorder.get(Site::Value(layer)).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
        let context = weights.matmul(&value_bhsk).unwrap().transpose(1, 2).unwrap();
        assert_close(&values(&context), &values(recorder.get(Site::Context(layer)).unwrap()), 1e-12);
    }
}

#[test]
fn probed_values_between_the_sublayers_add_up() {
    for config in [multihead(), bert(), llama()] {
        let model = shaken(&config);
        let mut recorder = Recorder::everything();
        let row = input(&[3, 1, 4, 1], 1);
        model.forward(&row, &mut Pass::probed(&mut recorder)).unwrap();
        let seen = |site: Site| values(recorder.get(site).unwrap_or_else(|| panic!("{site}")));
        let sum = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<_>>();
        for layer in 0..config.n_layer {
            let x = seen(layer.checked_sub(1).map_or(Site::Embedding, Site::Block));
            let attention = sum(x, seen(Site::AttentionOutput(layer)));
            assert_close(&attention, &seen(Site::AttentionSum(layer)), 1e-12);
            let inner = sum(seen(Site::Middle(layer)), seen(Site::FeedForwardOutput(layer)));
            assert_close(&inner, &seen(Site::FeedForwardSum(layer)), 1e-12);
            // Rotation preserves lengths; without rotation nothing is recorded before it.
            let before = recorder.get(Site::UnrotatedQuery(layer));
            assert_eq!(before.is_some(), config.layer_kind(layer).rope.is_some());
            if let Some(before) = before {
                let square = |all: &[f64]| all.iter().map(|x| x * x).sum::<f64>();
                let (before, after) = (values(before), seen(Site::Query(layer)));
                assert_close(&[square(&before)], &[square(&after)], 1e-9);
                assert!(before != after);
            }
        }
    }
}

#[test]
fn recorder_keeps_only_the_requested_sites() {
    let model = shaken(&multihead());
    let mut recorder = Recorder::of(&[Site::Block(1)]);
    model.forward(&input(&[3], 1), &mut Pass::probed(&mut recorder)).unwrap();
    assert!(recorder.get(Site::Block(1)).is_some() && recorder.get(Site::AttentionWeights(1)).is_none());
    assert_eq!(Site::AttentionWeights(1).to_string(), "blocks.1.attention.weights");
}
