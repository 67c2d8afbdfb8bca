//! Every differentiable operation through the harness, at odd shapes and at shapes drawn by proptest.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use candle_core::{Device, Result, Tensor};
use harness::{Case, check, normal};
use proptest::prelude::*;
use vulpes_ops::{
    self as ops, Activation, AttentionLayer, AttentionOptions, CrossEntropyOptions, Dropout, FeedForward,
    Linear, Mask, Norm, RotaryTables, reference,
};
use vulpes_random::Key;

fn run(
    name: &str,
    inputs: Vec<Tensor>,
    fast: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    reference: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) {
    check(&Case {
        name: format!("{name} {:?}", inputs.iter().map(Tensor::dims).collect::<Vec<_>>()),
        fast,
        reference,
        inputs,
    });
}

/// Runs `$name` through the harness: `|x| expression` with `op` standing for the fast form and for the reference.
macro_rules! through {
    ($name:ident, [$($input:expr),* $(,)?], |$op:ident, $x:ident| $call:expr) => {
        through!($name, vec![$($input),*], |$op, $x| $call)
    };
    ($name:ident, $inputs:expr, |$op:ident, $x:ident| $call:expr) => {{
        let fast = |$x: &[Tensor]| -> Result<Tensor> { use ops::$name as $op; $call };
        let plain = |$x: &[Tensor]| -> Result<Tensor> { use reference::$name as $op; $call };
        run(stringify!($name), $inputs, &fast, &plain);
    }};
}

fn activations(shape: &[usize]) {
    through!(gelu_tanh, [normal(1, shape)], |op, x| op(&x[0]));
    through!(gelu_erf, [normal(1, shape)], |op, x| op(&x[0]));
    through!(silu, [normal(1, shape)], |op, x| op(&x[0]));
    through!(relu2, [normal(1, shape)], |op, x| op(&x[0]));
    through!(swiglu, [normal(1, shape), normal(2, shape)], |op, x| op(&x[0], &x[1]));
}

fn linears(n: usize, i: usize, o: usize) {
    through!(linear, [normal(1, &[n, i]), normal(2, &[o, i])], |op, x| op(&x[0], &x[1], None));
    through!(linear, [normal(1, &[n, 2, i]), normal(2, &[o, i]), normal(3, &[o])], |op, x| op(
        &x[0],
        &x[1],
        Some(&x[2])
    ));
}

fn linear_residuals(b: usize, t: usize, i: usize, o: usize) {
    let rule = Dropout { p: 0.3, key: Key::new(4, "dropout"), first_row: 1 };
    let (x, inner) = (normal(1, &[b, t, o]), normal(2, &[b, t, i]));
    for dropout in [None, Some(&rule)] {
        let inputs = [x.clone(), inner.clone(), normal(3, &[o, i]), normal(4, &[o])];
        let [x, inner, weight, bias] = inputs;
        through!(linear_residual, [x, inner.clone(), weight.clone(), bias], |op, x| {
            op(Some(&x[0]), &x[1], Linear { weight: &x[2], bias: Some(&x[3]) }, dropout)
        });
        through!(linear_residual, [inner, weight], |op, x| {
            op(None, &x[0], Linear { weight: &x[1], bias: None }, dropout)
        });
    }
}

fn norms(n: usize, d: usize) {
    let (x, w, b) = (normal(1, &[n, d]), normal(2, &[d]), normal(3, &[d]));
    // A larger ε where a row may be nearly constant: there the curvature would defeat the differences.
    let eps = if d < 4 { 0.1 } else { 1e-3 };
    through!(layer_norm, [x.clone(), w.clone(), b], |op, x| op(&x[0], &x[1], Some(&x[2]), eps));
    through!(layer_norm, [x.clone(), w.clone()], |op, x| op(&x[0], &x[1], None, eps));
    through!(rms_norm, [x, w], |op, x| op(&x[0], &x[1], eps));
}

fn softmaxes(n: usize, d: usize) {
    through!(softmax, [normal(1, &[n, d])], |op, x| op(&x[0]));
    through!(softmax, [normal(1, &[n, 2, d])], |op, x| op(&x[0]));
}

fn dropouts(shape: &[usize]) {
    let rule = Dropout { p: 0.3, key: Key::new(1, "dropout"), first_row: 3 };
    through!(dropout, [normal(1, shape)], |op, x| op(&x[0], &rule));
}

fn rotaries(b: usize, t: usize, h: usize, half: usize) {
    let (rows, k) = (t + 3, 2 * half);
    let angles = normal(5, &[rows, half]);
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let picked: Vec<u32> = (0..b * t).map(|i| (i * 5 % rows) as u32).collect();
    let positions = Tensor::from_vec(picked, (b, t), &Device::Cpu).unwrap();
    for positions in [None, Some(&positions)] {
        through!(rotary, [normal(1, &[b, t, h, k])], |op, x| {
            let dtype = x[0].dtype();
            op(&x[0], &cos.to_dtype(dtype)?, &sin.to_dtype(dtype)?, positions)
        });
    }
}

fn embeddings(b: usize, t: usize, v: usize, d: usize) {
    let ids = |n: usize, step: usize| {
        Tensor::from_vec((0..n).map(|i| (i * step % v) as u32).collect::<Vec<_>>(), n, &Device::Cpu).unwrap()
    };
    let tokens = ids(b * t, 7).reshape((b, t)).unwrap();
    let positions = ids(t, 1);
    through!(embedding, [normal(1, &[v, d])], |op, x| op(&tokens, &x[0]));
    through!(embedding, [normal(1, &[v, d])], |op, x| op(&tokens.t()?, &x[0]));
    through!(embedding_sum, [normal(1, &[v, d]), normal(2, &[v, d])], |op, x| {
        op(&[(&tokens, &x[0]), (&positions, &x[1]), (&tokens, &x[1])])
    });
}

fn cross_entropies(n: usize, d: usize, v: usize) {
    let targets: Vec<i64> = (0..n).map(|i| if i % 3 == 2 { -100 } else { (i * 7 % v) as i64 }).collect();
    for label_smoothing in [0.0, 0.1] {
        let options = CrossEntropyOptions { label_smoothing, ..Default::default() };
        through!(cross_entropy, [normal(1, &[n, v])], |op, x| Ok(op(&x[0], &targets, &options)?.sum));
        let (hidden, weight, bias) = (normal(1, &[n, d]), normal(2, &[v, d]), normal(3, &[v]));
        through!(lm_head, [hidden.clone(), weight.clone()], |op, x| {
            Ok(op(&x[0], &x[1], None, &targets, &options)?.sum)
        });
        through!(lm_head, [hidden, weight, bias], |op, x| {
            Ok(op(&x[0], &x[1], Some(&x[2]), &targets, &options)?.sum)
        });
    }
}

/// Every rule of the mask at once and none of them, with and without dropout.
fn attentions(b: usize, t: usize, past: usize, (h, g): (usize, usize), k: usize) {
    let s = past + t;
    let keep: Vec<u8> = (0..b * s).map(|i| u8::from(i % 5 != 3)).collect();
    let segments: Vec<u32> = (0..b * s).map(|i| (i % s / 4) as u32).collect();
    let masks = [
        Mask::causal(),
        Mask::full(),
        Mask::causal().window(3),
        Mask::full().keep(b, s, keep.clone().into()),
        Mask::causal().window(5).keep(b, s, keep.into()).segments(b, s, segments.into()),
    ];
    let dropout = Dropout { p: 0.25, key: Key::new(2, "weights"), first_row: 1 };
    for (i, mask) in masks.into_iter().enumerate() {
        let mask = mask.past(past);
        let rule = if i % 2 == 1 { Some(&dropout) } else { None };
        let options = AttentionOptions { scale: 0.4, mask: &mask, dropout: rule };
        let inputs = [normal(1, &[b, t, h, k]), normal(2, &[b, s, g, k]), normal(3, &[b, s, g, k])];
        let [q, keys, values] = inputs;
        through!(attention, [q, keys, values], |op, x| op(&x[0], &x[1], &x[2], &options));
    }
}

/// Inputs that are as large as trained weights would make them: their sums stay near 1.
fn weight(key: u64, o: usize, i: usize) -> Tensor {
    normal(key, &[o, i]).affine(1.0 / (i.max(1) as f64).sqrt(), 0.0).unwrap()
}

fn feed_forwards(b: usize, t: usize, d: usize, f: usize) {
    let rule = Dropout { p: 0.3, key: Key::new(4, "dropout"), first_row: 1 };
    let x = normal(1, &[b, t, d]);
    let (up, down, gate) = (weight(2, f, d), weight(3, d, f), weight(4, f, d));
    let (norm, shift) = (normal(5, &[d]), normal(6, &[d]));
    let (up_bias, down_bias) = (normal(7, &[f]), normal(8, &[d]));
    for dropout in [None, Some(&rule)] {
        let inputs = [
            x.clone(),
            norm.clone(),
            shift.clone(),
            up.clone(),
            up_bias.clone(),
            down.clone(),
            down_bias.clone(),
        ];
        for activation in [Activation::GeluTanh, Activation::GeluErf, Activation::Relu2] {
            let [x, norm, shift, up, up_bias, down, down_bias] = inputs.clone();
            through!(feed_forward, [x, norm, shift, up, up_bias, down, down_bias], |op, x| {
                let norm = Norm::Layer { weight: &x[1], bias: Some(&x[2]), eps: 0.05 };
                op(
                    &x[0],
                    &FeedForward {
                        norm: Some(norm),
                        gate: None,
                        up: Linear { weight: &x[3], bias: Some(&x[4]) },
                        down: Linear { weight: &x[5], bias: Some(&x[6]) },
                        activation,
                        residual: true,
                        dropout,
                    },
                )
            });
        }
        through!(feed_forward, [x.clone(), norm.clone(), gate.clone(), up.clone(), down.clone()], |op, x| {
            op(
                &x[0],
                &FeedForward {
                    norm: Some(Norm::Rms { weight: &x[1], eps: 0.05 }),
                    gate: Some(Linear { weight: &x[2], bias: None }),
                    up: Linear { weight: &x[3], bias: None },
                    down: Linear { weight: &x[4], bias: None },
                    activation: Activation::Silu,
                    residual: true,
                    dropout,
                },
            )
        });
        for residual in [false, true] {
            let inputs =
                [x.clone(), gate.clone(), up_bias.clone(), up.clone(), up_bias.clone(), down.clone()];
            let [x, gate, gate_bias, up, up_bias, down] = inputs;
            through!(feed_forward, [x, gate, gate_bias, up, up_bias, down], |op, x| {
                op(
                    &x[0],
                    &FeedForward {
                        norm: None,
                        gate: Some(Linear { weight: &x[1], bias: Some(&x[2]) }),
                        up: Linear { weight: &x[3], bias: Some(&x[4]) },
                        down: Linear { weight: &x[5], bias: None },
                        activation: Activation::GeluTanh,
                        residual,
                        dropout,
                    },
                )
            });
        }
    }
}

fn attention_layers(b: usize, t: usize, (h, g): (usize, usize), half: usize, d: usize) {
    let k = 2 * half;
    let rule = Dropout { p: 0.3, key: Key::new(4, "dropout"), first_row: 1 };
    let angles = normal(20, &[t + 2, half]);
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let keep: Vec<u8> = (0..b * t).map(|i| u8::from(i % 4 != 2)).collect();
    let padded = Mask::full().keep(b, t, keep.into());
    let causal = Mask::causal();
    let x = normal(1, &[b, t, d]);
    let (q, keys, values, out) =
        (weight(2, h * k, d), weight(3, g * k, d), weight(4, g * k, d), weight(5, d, h * k));
    let (norm, shift) = (normal(6, &[d]), normal(7, &[d]));
    let biases = [normal(8, &[h * k]), normal(9, &[g * k]), normal(10, &[g * k]), normal(11, &[d])];
    for (mask, dropout) in [(&causal, None), (&padded, Some(&rule))] {
        let attention = AttentionOptions { scale: 0.5, mask, dropout };
        let [qb, kb, vb, ob] = biases.clone();
        let (x, q, keys, values, out) = (x.clone(), q.clone(), keys.clone(), values.clone(), out.clone());
        let inputs = vec![
            x.clone(),
            norm.clone(),
            shift.clone(),
            q.clone(),
            qb,
            keys.clone(),
            kb,
            values.clone(),
            vb,
            out.clone(),
            ob,
        ];
        through!(attention_layer, inputs.clone(), |op, x| {
            let side = |i: usize| Linear { weight: &x[i], bias: Some(&x[i + 1]) };
            op(
                &x[0],
                &AttentionLayer {
                    norm: Some(Norm::Layer { weight: &x[1], bias: Some(&x[2]), eps: 0.05 }),
                    query: side(3),
                    key: side(5),
                    value: side(7),
                    output: Some(side(9)),
                    d_head: k,
                    rotary: None,
                    attention,
                    residual: true,
                    dropout,
                },
            )
        });
        for residual in [false, true] {
            through!(
                attention_layer,
                [x.clone(), norm.clone(), q.clone(), keys.clone(), values.clone(), out.clone()],
                |op, x| {
                    let side = |i: usize| Linear { weight: &x[i], bias: None };
                    let (cos, sin) = (cos.to_dtype(x[0].dtype())?, sin.to_dtype(x[0].dtype())?);
                    op(
                        &x[0],
                        &AttentionLayer {
                            norm: residual.then_some(Norm::Rms { weight: &x[1], eps: 0.05 }),
                            query: side(2),
                            key: side(3),
                            value: side(4),
                            output: Some(side(5)),
                            d_head: k,
                            rotary: Some(RotaryTables { cos: &cos, sin: &sin, positions: None }),
                            attention,
                            residual,
                            dropout,
                        },
                    )
                }
            );
        }
        through!(attention_layer, [x.clone(), q.clone(), keys.clone(), values.clone()], |op, x| {
            let side = |i: usize| Linear { weight: &x[i], bias: None };
            op(
                &x[0],
                &AttentionLayer {
                    norm: None,
                    query: side(1),
                    key: side(2),
                    value: side(3),
                    output: None,
                    d_head: k,
                    rotary: None,
                    attention,
                    residual: false,
                    dropout,
                },
            )
        });
    }
}

#[test]
fn sublayers() {
    feed_forwards(1, 1, 1, 1);
    feed_forwards(2, 3, 5, 7);
    feed_forwards(0, 2, 3, 4);
    attention_layers(1, 1, (1, 1), 1, 1);
    attention_layers(2, 3, (2, 1), 1, 3);
    attention_layers(2, 4, (2, 2), 2, 5);
    attention_layers(0, 2, (2, 1), 1, 3);
}

#[test]
fn odd_shapes() {
    for shape in [&[1][..], &[7], &[2, 3], &[3, 17], &[2, 1, 33], &[0, 3]] {
        activations(shape);
        dropouts(shape);
    }
    for (n, i, o) in [(1, 1, 1), (3, 5, 7), (2, 17, 3), (0, 3, 2)] {
        linears(n, i, o);
        linear_residuals(n, 2, i, o);
    }
    for (n, d) in [(1, 1), (3, 5), (2, 17), (65, 3), (4, 48), (0, 3)] {
        norms(n, d);
        softmaxes(n, d);
    }
    for (b, t, h, half) in [(1, 1, 1, 1), (2, 3, 2, 5), (1, 4, 3, 8), (0, 2, 1, 1)] {
        rotaries(b, t, h, half);
    }
    for (b, t, v, d) in [(1, 1, 1, 1), (2, 3, 5, 7), (3, 5, 4, 17), (0, 2, 3, 2)] {
        embeddings(b, t, v, d);
    }
    for (n, d, v) in [(1, 1, 1), (3, 5, 7), (8, 3, 33)] {
        cross_entropies(n, d, v);
    }
    attentions(1, 1, 0, (1, 1), 1);
    attentions(2, 7, 0, (2, 2), 5);
    attentions(2, 5, 3, (4, 2), 3);
    attentions(1, 9, 2, (3, 1), 4);
    attentions(0, 2, 0, (2, 1), 3);
}

/// Attention over more than one tile of queries and more than one block of keys.
#[test]
fn long_attention() {
    for (mask, t, s) in [
        (Mask::causal(), 70, 70),
        (Mask::full(), 2, 600),
        (Mask::causal().window(40), 150, 150),
        (Mask::causal().past(530), 3, 533),
    ] {
        let dropout = Dropout { p: 0.25, key: Key::new(2, "weights"), first_row: 0 };
        for rule in [None, Some(&dropout)] {
            let options = AttentionOptions { scale: 0.7, mask: &mask, dropout: rule };
            let inputs = [normal(1, &[1, t, 1, 2]), normal(2, &[1, s, 1, 2]), normal(3, &[1, s, 1, 2])];
            let [q, k, v] = inputs;
            through!(attention, [q, k, v], |op, x| op(&x[0], &x[1], &x[2], &options));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_activations(a in 1usize..6, b in 1usize..20) {
        activations(&[a, b]);
        dropouts(&[a, b]);
    }

    #[test]
    fn drawn_linears(n in 1usize..5, i in 1usize..20, o in 1usize..20) {
        linears(n, i, o);
        linear_residuals(n, 2, i, o);
    }

    #[test]
    fn drawn_norms(n in 1usize..5, d in 1usize..40) {
        norms(n, d);
        softmaxes(n, d);
    }

    #[test]
    fn drawn_rotaries(b in 1usize..3, t in 1usize..4, h in 1usize..3, half in 1usize..10) {
        rotaries(b, t, h, half);
    }

    #[test]
    fn drawn_embeddings(b in 1usize..3, t in 1usize..4, v in 1usize..6, d in 1usize..18) {
        embeddings(b, t, v, d);
    }

    #[test]
    fn drawn_cross_entropies(n in 1usize..5, d in 1usize..6, v in 1usize..35) {
        cross_entropies(n, d, v);
    }

    #[test]
    fn drawn_sublayers(b in 1usize..3, t in 1usize..4, d in 2usize..6, f in 1usize..9, g in 1usize..3, half in 1usize..3) {
        feed_forwards(b, t, d, f);
        attention_layers(b, t, (2 * g, g), half, d);
    }

    #[test]
    fn drawn_attentions(b in 1usize..3, t in 1usize..6, past in 0usize..4, g in 1usize..3, each in 1usize..3, k in 1usize..7) {
        attentions(b, t, past, (g * each, g), k);
    }
}

/// Each operation that has a reference is in this file, but for those that have no gradient to check.
#[test]
fn no_operation_is_left_out() {
    let (library, here) = (include_str!("../src/lib.rs"), include_str!("operations.rs"));
    let block = library.split("pub mod reference {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = block.lines().filter_map(|line| line.trim().strip_prefix("pub use ")).flat_map(|line| {
        let last = line.trim_end_matches(';').rsplit("::").next().unwrap();
        last.trim_matches(['{', '}']).split(", ").map(str::to_string).collect::<Vec<_>>()
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 15, "{names:?}");
    // Checked against their references in promises.rs.
    let elsewhere = ["adamw", "sgd", "attention_pattern", "with_reference"];
    for name in names.iter().filter(|name| !elsewhere.contains(&name.as_str())) {
        assert!(here.contains(&format!("through!({name}, ")), "{name} does not go through the harness");
    }
    for name in elsewhere {
        assert!(include_str!("promises.rs").contains(name), "{name} is not checked");
    }
}
