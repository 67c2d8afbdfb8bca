//! Nothing leaks through a mask: neither the future, nor padding, nor another document.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use support::*;
use vulpes_model::config::MaskKind;
use vulpes_model::config::{LayerOverride, Positions};
use vulpes_model::{KvCache, ModelConfig, Pass};

#[test]
fn causal_mask_hides_the_future_bit_for_bit() {
    for config in [fox(), multihead(), llama(), windowed()] {
        let model = shaken(&config);
        let before = logits(&model, &input(&[1, 2, 3, 4, 5], 1));
        for changed in 1..5 {
            let mut ids = [1, 2, 3, 4, 5];
            ids[changed] = 10;
            let after = logits(&model, &input(&ids, 1));
            assert_eq!(
                at(&before, 0, 0..changed),
                at(&after, 0, 0..changed),
                "token {changed}, {:?}",
                config.family
            );
            assert_ne!(at(&before, 0, changed..5), at(&after, 0, changed..5));
        }
    }
}

#[test]
fn full_mask_sees_the_future() {
    let model = shaken(&ModelConfig { mask: MaskKind::Full, ..multihead() });
    let (a, b) = (logits(&model, &input(&[1, 2, 3], 1)), logits(&model, &input(&[1, 2, 4], 1)));
    assert_ne!(at(&a, 0, 0..1), at(&b, 0, 0..1));
}

#[test]
fn right_padding_does_not_change_a_row() {
    for config in [fox(), multihead(), bert(), llama()] {
        let model = shaken(&config);
        let alone = logits(&model, &input(&[3, 1, 4], 1));
        let padding_mask = [1, 1, 1, 0, 0, 1, 1, 1, 1, 1];
        let padded =
            logits(&model, &input(&[3, 1, 4, 0, 0, 9, 2, 6, 5, 3], 2).with_padding_mask(padding_mask.into()));
        assert_close(&at(&alone, 0, 0..3), &at(&padded, 0, 0..3), 1e-12);
    }
}

#[test]
fn left_padding_does_not_change_a_row() {
    for config in [multihead(), llama(), bert()] {
        let model = shaken(&config);
        let alone = logits(&model, &input(&[3, 1, 4], 1));
        let padded = input(&[0, 0, 3, 1, 4], 1).with_padding_mask([0, 0, 1, 1, 1].into());
        let padded = logits(&model, &padded.with_positions(&[0, 0, 0, 1, 2]).unwrap());
        assert_close(&at(&alone, 0, 0..3), &at(&padded, 0, 2..5), 1e-12);
    }
}

#[test]
fn row_with_only_padding_is_finite() {
    for config in [fox(), multihead(), bert(), llama()] {
        let model = shaken(&config);
        let all = logits(&model, &input(&[0, 0, 0], 1).with_padding_mask([0, 0, 0].into()));
        assert!(values(&all).iter().all(|value| value.is_finite()));
    }
}

#[test]
fn packed_documents_do_not_see_each_other() {
    let model = shaken(&llama());
    let packed = input(&[3, 1, 4, 9, 2], 1).with_segments([0, 0, 0, 1, 1].into());
    let packed = logits(&model, &packed.with_positions(&[0, 1, 2, 0, 1]).unwrap());
    assert_close(&at(&packed, 0, 0..3), &at(&logits(&model, &input(&[3, 1, 4], 1)), 0, 0..3), 1e-12);
    assert_close(&at(&packed, 0, 3..5), &at(&logits(&model, &input(&[9, 2], 1)), 0, 0..2), 1e-12);
}

#[test]
fn window_hides_older_tokens() {
    // Two layers with a window of 2 reach back two tokens: the first of four can't be seen from the last.
    let model = shaken(&windowed());
    let (a, b) = (logits(&model, &input(&[1, 2, 3, 4], 1)), logits(&model, &input(&[9, 2, 3, 4], 1)));
    assert_eq!(at(&a, 0, 3..4), at(&b, 0, 3..4));
    assert_ne!(at(&a, 0, 2..3), at(&b, 0, 2..3));
}

#[test]
fn each_layer_has_its_own_window_and_positions() {
    let seen_from_the_last = |config: &ModelConfig| {
        let model = shaken(config);
        let last = |ids: &[u32]| -> Vec<f64> { at(&logits(&model, &input(ids, 1)), 0, 4..5) };
        let whole = last(&[1, 2, 3, 4, 5]);
        // The first token replaced, and the second and third swapped.
        let differs = |ids| last(ids).iter().zip(&whole).any(|(a, b)| (a - b).abs() > 1e-9);
        (differs(&[9, 2, 3, 4, 5]), differs(&[1, 3, 2, 4, 5]))
    };
    let (window, theta) = (Some(2), Some(100.0));
    let near = LayerOverride { window, ..LayerOverride::default() };
    let (narrow, unplaced) = (ModelConfig { layers: vec![near], ..llama() }, Some(Positions::None));
    assert_eq!(seen_from_the_last(&narrow), (false, true), "two layers of two tokens reach back two");
    assert_eq!(seen_from_the_last(&mixed()), (true, true), "the second layer sees all");
    let bag = LayerOverride { positions: unplaced, ..LayerOverride::default() };
    let bag = ModelConfig { layers: vec![bag], n_layer: 1, ..llama() };
    assert_eq!(seen_from_the_last(&bag), (true, false), "without positions the order is lost");
    let turned = LayerOverride { rope_theta: theta, ..LayerOverride::default() };
    let (one, other) = (shaken(&llama()), shaken(&ModelConfig { layers: vec![turned], ..llama() }));
    let ids = input(&[1, 2, 3, 4, 5], 1);
    assert_ne!(values(&logits(&one, &ids)), values(&logits(&other, &ids)), "the base matters");
}

#[test]
fn cache_does_not_change_logits() {
    for config in [fox(), multihead(), llama(), windowed(), mixed()] {
        let model = shaken(&config);
        let ids = [3, 1, 4, 1, 5, 9];
        let whole = logits(&model, &input(&ids, 1));
        let mut cache = KvCache::of(&config);
        let mut at_once = 0;
        for chunk in [&ids[..2], &ids[2..3], &ids[3..]] {
            let hidden = model.forward(&input(chunk, 1), &mut Pass::cached(&mut cache)).unwrap();
            let part = model.logits(&hidden, &mut Pass::inference()).unwrap();
            let tokens = at_once..at_once + chunk.len();
            assert_close(&at(&whole, 0, tokens.clone()), &at(&part, 0, 0..chunk.len()), 1e-12);
            at_once = tokens.end;
        }
        let held = config.window.map_or(ids.len(), |window| window - 1);
        assert_eq!((cache.n_seen(), cache.len()), (ids.len(), held));
    }
}

#[test]
fn bidirectional_model_refuses_a_cache() {
    let model = shaken(&bert());
    let mut cache = KvCache::of(model.config());
    assert!(model.forward(&input(&[1, 2], 1), &mut Pass::cached(&mut cache)).is_err());
}

#[test]
fn overlong_rows_and_unknown_ids_are_refused() {
    let model = shaken(&multihead());
    let error = model.forward(&input(&[1; 9], 1), &mut Pass::inference()).unwrap_err().to_string();
    assert!(error.contains("longer than the context of 8"), "{error}");
    assert!(model.forward(&input(&[11], 1), &mut Pass::inference()).is_err());
}
