//! Benchmarks of the kernels against their plain candle references, at the shapes of a small GPT's training step.
//!
//! Both run on one thread: candle's pool spins while it waits, and would be timed with whatever follows. Before timing,
//! both forms must return the same result and the same gradients.
#![allow(clippy::unwrap_used, missing_docs)]

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::time::Duration;
use vulpes_ops::reference::with_reference;
use vulpes_ops::{
    Activation, AttentionLayer, AttentionOptions, CrossEntropyOptions, FeedForward, Gradients, Linear, Mask,
    Norm, attention, attention_layer, backward, cross_entropy, feed_forward, gelu_tanh, layer_norm, linear,
    lm_head, softmax,
};
use vulpes_random::Key;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a batch.
const B: usize = 6;
/// Positions per row.
const T: usize = 64;
/// Heads.
const H: usize = 4;
/// The width of a head.
const K: usize = 32;
/// The width of the model.
const D: usize = H * K;
/// The width of the feed-forward.
const F: usize = 4 * D;
/// The size of the vocabulary.
const V: usize = 65;

type Operation = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

fn normal(key: u64, shape: &[usize], size: f64) -> Var {
    let mut stream = Key::new(key, "bench").stream();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| (stream.normal() * size) as f32).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Every operation with the shapes of its inputs.
fn operations() -> Vec<(&'static str, Vec<Vec<usize>>, Operation)> {
    let targets: Vec<i64> = (0..B * T).map(|i| (i * 7919 % V) as i64).collect();
    let more = targets.clone();
    let x = || vec![B, T, D];
    let heads = || vec![B, T, H, K];
    vec![
        ("linear", vec![x(), vec![F, D], vec![F]], Box::new(|x| linear(&x[0], &x[1], Some(&x[2])))),
        (
            "layer_norm",
            vec![x(), vec![D], vec![D]],
            Box::new(|x| layer_norm(&x[0], &x[1], Some(&x[2]), 1e-5)),
        ),
        ("gelu_tanh", vec![vec![B, T, F]], Box::new(|x| gelu_tanh(&x[0]))),
        ("softmax", vec![vec![B, H, T, T]], Box::new(|x| softmax(&x[0]))),
        (
            "attention",
            vec![heads(), heads(), heads()],
            Box::new(|x| {
                let mask = Mask::causal();
                attention(&x[0], &x[1], &x[2], &AttentionOptions { scale: 0.2, mask: &mask, dropout: None })
            }),
        ),
        (
            "cross_entropy",
            vec![vec![B * T, V]],
            Box::new(move |x| Ok(cross_entropy(&x[0], &targets, &CrossEntropyOptions::default())?.sum)),
        ),
        (
            "lm_head",
            vec![vec![B * T, D], vec![V, D]],
            Box::new(move |x| Ok(lm_head(&x[0], &x[1], None, &more, &CrossEntropyOptions::default())?.sum)),
        ),
        (
            "feed_forward",
            vec![x(), vec![D], vec![D], vec![F, D], vec![F], vec![D, F], vec![D]],
            Box::new(|x| {
                let parts = FeedForward {
                    norm: Some(Norm::Layer { weight: &x[1], bias: Some(&x[2]), eps: 1e-5 }),
                    gate: None,
                    up: Linear { weight: &x[3], bias: Some(&x[4]), adapter: None },
                    down: Linear { weight: &x[5], bias: Some(&x[6]), adapter: None },
                    activation: Activation::GeluTanh,
                    residual: true,
                    dropout: None,
                    adapter_dropout: None,
                };
                feed_forward(&x[0], &parts)
            }),
        ),
        (
            "attention_layer",
            vec![x(), vec![D], vec![D], vec![D, D], vec![D, D], vec![D, D], vec![D, D]],
            Box::new(|x| {
                let mask = Mask::causal();
                let side = |i: usize| Linear { weight: &x[i], bias: None, adapter: None };
                let parts = AttentionLayer {
                    norm: Some(Norm::Layer { weight: &x[1], bias: Some(&x[2]), eps: 1e-5 }),
                    query: side(3),
                    key: side(4),
                    value: side(5),
                    output: Some(side(6)),
                    d_head: K,
                    query_norm: None,
                    key_norm: None,
                    rotary: None,
                    bias: None,
                    added_values: None,
                    attention: AttentionOptions { scale: 0.2, mask: &mask, dropout: None },
                    residual: true,
                    dropout: None,
                    adapter_dropout: None,
                };
                attention_layer(&x[0], &parts)
            }),
        ),
    ]
}

/// One forward and backward pass.
fn pass(operation: &Operation, inputs: &[Tensor], gradients: &mut Gradients) -> Result<Tensor> {
    gradients.zero();
    let y = operation(inputs)?;
    // A gradient that varies by element would cost another pass, so the sum of the result is the loss.
    backward(&y.sum_all()?, gradients)?;
    Ok(y)
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()
}

fn kernels(criterion: &mut Criterion) {
    // SAFETY: no benchmark has run yet, so this is the only thread.
    #[allow(unsafe_code, reason = "candle's pool spins next to the timed kernels")]
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
    }
    let mut group = criterion.benchmark_group("forward_and_backward");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for (name, shapes, operation) in operations() {
        let vars: Vec<(String, Var)> =
            shapes.iter().enumerate().map(|(i, s)| (i.to_string(), normal(i as u64, s, 0.2))).collect();
        let inputs: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().clone()).collect();
        let mut fast = Gradients::new(&vars).unwrap();
        let mut plain = Gradients::new(&vars).unwrap();
        let y = pass(&operation, &inputs, &mut fast).unwrap();
        let expected = with_reference(|| pass(&operation, &inputs, &mut plain)).unwrap();
        let scale =
            expected.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(
            largest_difference(&y, &expected).unwrap() <= 1e-4 * scale.max(1.0),
            "{name}: results differ"
        );
        for ((input, fast), (_, plain)) in fast.iter().zip(plain.iter()) {
            let difference = largest_difference(fast.unwrap(), plain.unwrap()).unwrap();
            assert!(difference <= 2e-3, "{name}: gradients {input} differ by {difference}");
        }
        group.bench_function(BenchmarkId::new(name, "fast"), |bencher| {
            bencher.iter(|| pass(&operation, &inputs, &mut fast).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "reference"), |bencher| {
            bencher.iter(|| with_reference(|| pass(&operation, &inputs, &mut plain)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
