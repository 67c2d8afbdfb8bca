//! Every parameter of every kind of model against central differences in float64.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use candle_core::Tensor;
use support::*;
use vulpes_model::{Head, ModelConfig, Pass, Transformer};
use vulpes_ops::{CrossEntropyOptions, Gradients, backward};
use vulpes_random::Key;

const STEP: f64 = 1e-5;

fn loss(model: &Transformer) -> Tensor {
    let ids = [1, 4, 2, 9, 7, 3, 5, 5, 10, 0];
    let mut padding_mask = [1u8; 10];
    padding_mask[9] = 0;
    let input = input(&ids, 2).with_padding_mask(padding_mask.into());
    let mut pass = Pass::training(Key::new(3, "dropout").with(&1u64), 0);
    let hidden = model.forward(&input, &mut pass).unwrap();
    let hidden = model.read_by_head(&hidden, &input).unwrap();
    let targets: &[i64] = match model.config().head {
        Head::Classify { .. } => &[2, 0],
        _ => &[4, 2, 9, 7, -100, 5, 5, 10, 1, -100],
    };
    model.loss(&hidden, targets, &CrossEntropyOptions::default(), &pass).unwrap().mean().unwrap()
}

fn check(config: ModelConfig) {
    let model = shaken(&config);
    let named: Vec<_> = model.parameters().iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let mut gradients = Gradients::new(&named).unwrap();
    backward(&loss(&model), &mut gradients).unwrap();
    for (name, var) in &named {
        let gradient = values(gradients.get(name).unwrap_or_else(|| panic!("{name} has no gradient")));
        let start = var.as_tensor().copy().unwrap().detach();
        let mut worst: f64 = 0.0;
        for i in 0..var.elem_count() {
            let moved = |by: f64| {
                let mut all = values(&start);
                all[i] += by;
                var.set(&Tensor::from_vec(all, var.shape(), var.device()).unwrap()).unwrap();
                loss(&model).to_scalar::<f64>().unwrap()
            };
            let numeric = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            worst = worst.max((numeric - gradient[i]).abs() / (1e-3 + numeric.abs()));
        }
        var.set(&start).unwrap();
        assert!(worst < 1e-6, "{name}: relative error {worst:e}");
        // The softmax cancels what is added to every key, by its projection or by its norm: it adds the same to every
        // score of a query. A position with only padding, and a row of the vocabulary that no token used, have no
        // gradient either.
        let largest = gradient.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
        assert!(
            largest > 1e-9 || name.ends_with("key.bias") || name.ends_with("key_norm.bias"),
            "{name}: the gradient is zero"
        );
    }
}

#[test]
fn gradients_of_fox_match_central_differences() {
    check(support::fox());
}

#[test]
fn gradients_of_multihead_match_central_differences() {
    check(support::multihead());
}

#[test]
fn gradients_of_multihead_with_dropout_match_central_differences() {
    check(ModelConfig { dropout: 0.2, ..support::multihead() });
}

#[test]
fn gradients_of_bert_match_central_differences() {
    check(support::bert());
}

#[test]
fn gradients_of_llama_match_central_differences() {
    check(support::llama());
}

#[test]
fn gradients_of_windowed_match_central_differences() {
    check(support::windowed());
}

#[test]
fn gradients_of_layers_that_differ_match_central_differences() {
    check(support::mixed());
}

#[test]
fn gradients_of_classifier_match_central_differences() {
    check(support::classifier());
}

#[test]
fn gradients_of_every_family_match_central_differences() {
    for config in support::families() {
        check(config);
    }
}

#[test]
fn gradients_of_mixtures_match_central_differences() {
    for config in support::mixtures() {
        check(config);
    }
}
