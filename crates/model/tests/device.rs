//! Other devices compute the same as the CPU; `.ci/cuda check` runs these tests with `VULPES_DEVICE=cuda`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use candle_core::{DType, Device, Tensor};
use support::*;
use vulpes_model::{Head, Input, ModelConfig, Pass, Transformer};
use vulpes_ops::{CrossEntropyOptions, Dropout, Gradients, backward, dropout};
use vulpes_random::Key;

/// The loss, the logits and every gradient of a training pass with dropout, in float32.
fn pass(config: &ModelConfig, device: &Device) -> Vec<(String, Vec<f64>)> {
    let model: Transformer = shaken_on(config, DType::F32, device);
    let named: Vec<_> = model.parameters().iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let input = Input::new(&[1, 4, 2, 9, 7, 3, 5, 5, 10, 0], 2, device).unwrap();
    let input = input.with_padding_mask([1, 1, 1, 1, 1, 1, 1, 1, 1, 0].into());
    let mut pass = Pass::training(Key::new(3, "dropout").with(&1u64), 0);
    let hidden = model.forward(&input, &mut pass).unwrap();
    let targets: &[i64] = match config.head {
        Head::Classify { .. } => &[2, 0],
        _ => &[4, 2, 9, 7, -100, 5, 5, 10, 1, -100],
    };
    let loss = model.loss(&hidden, targets, &CrossEntropyOptions::default(), &pass).unwrap().mean().unwrap();
    let mut gradients = Gradients::new(&named).unwrap();
    backward(&loss, &mut gradients).unwrap();
    let mut found = vec![
        ("the loss".to_owned(), values(&loss)),
        ("the logits".to_owned(), values(&model.logits(&hidden, &mut pass).unwrap())),
    ];
    let gradient = |name: &str| values(gradients.get(name).unwrap_or_else(|| panic!("{name}: no gradient")));
    found.extend(named.iter().map(|(name, _)| (format!("the gradient of {name}"), gradient(name))));
    found
}

mod needs_device {
    use super::*;

    #[test]
    #[ignore = "needs VULPES_DEVICE"]
    fn losses_logits_and_gradients_match_the_cpu() {
        std::env::var("VULPES_DEVICE").expect("VULPES_DEVICE names the device to compare with the CPU");
        for config in [fox(), multihead(), llama(), windowed(), bert(), classifier()] {
            let config = ModelConfig { dropout: 0.2, ..config };
            for ((what, there), (_, here)) in pass(&config, &device()).iter().zip(pass(&config, &Device::Cpu))
            {
                let largest = here.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
                let off = there.iter().zip(&here).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off <= 1e-4 * largest.max(1e-2), "{:?}: {what} differs by {off:e}", config.family);
            }
        }
    }

    #[test]
    #[ignore = "needs VULPES_DEVICE"]
    fn dropout_masks_match_the_cpu() {
        std::env::var("VULPES_DEVICE").expect("VULPES_DEVICE names the device to compare with the CPU");
        let pattern = Dropout { p: 0.3, key: Key::new(5, "pattern"), first_row: 7 };
        let drawn = |device: &Device| {
            let x = Tensor::ones((3, 17, 40), DType::F32, device).unwrap();
            values(&dropout(&x, &pattern).unwrap())
        };
        let (there, here) = (drawn(&device()), drawn(&Device::Cpu));
        assert!(here.contains(&0.0) && here.iter().any(|x| *x > 1.0));
        let zeros = |values: &[f64]| values.iter().map(|x| *x == 0.0).collect::<Vec<_>>();
        assert_eq!(zeros(&there), zeros(&here));
        assert_close(&there, &here, 1e-6);
    }
}
