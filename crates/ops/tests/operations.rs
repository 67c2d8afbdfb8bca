//! Every differentiable operation through the harness, at odd shapes and at shapes drawn by proptest.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;
mod masks;

use candle_core::{Device, Result, Tensor};
use harness::{normal, through};
use masks::masks;
use proptest::prelude::*;
use vulpes_ops::{
    self as ops, Adapter, AttentionOptions, CrossEntropyOptions, Dropout, Linear, Mask, reference,
};
use vulpes_random::Key;

fn activations(shape: &[usize]) {
    through!(gelu_tanh, [normal(1, shape)], |op, x| op(&x[0]));
    through!(gelu_erf, [normal(1, shape)], |op, x| op(&x[0]));
    through!(silu, [normal(1, shape)], |op, x| op(&x[0]));
    through!(relu2, [normal(1, shape)], |op, x| op(&x[0]));
    through!(relu, [normal(1, shape)], |op, x| op(&x[0]));
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
            op(Some(&x[0]), &x[1], Linear { weight: &x[2], bias: Some(&x[3]), adapter: None }, dropout)
        });
        through!(linear_residual, [inner, weight], |op, x| {
            op(None, &x[0], Linear { weight: &x[1], bias: None, adapter: None }, dropout)
        });
    }
}

/// A projection with a low-rank change; magnitudes have a separate test, as their norm is treated as a constant.
fn adapted_linears(b: usize, t: usize, (i, o): (usize, usize), rank: usize) {
    let rule = Dropout { p: 0.3, key: Key::new(4, "dropout"), first_row: 1 };
    let (x, weight, bias) = (normal(1, &[b, t, i]), normal(2, &[o, i]), normal(3, &[o]));
    let (down, up) = (normal(4, &[rank, i]), normal(5, &[o, rank]));
    for dropout in [None, Some(&rule)] {
        let inputs = [x.clone(), weight.clone(), bias.clone(), down.clone(), up.clone()];
        let [x, weight, bias, down, up] = inputs;
        through!(adapted_linear, [x, weight, bias, down, up], |op, x| {
            let adapter = Adapter { a: &x[3], b: &x[4], magnitude: None, scale: 0.7, draw: 2 };
            op(&x[0], Linear { weight: &x[1], bias: Some(&x[2]), adapter: Some(adapter) }, dropout)
        });
    }
}

fn norms(n: usize, d: usize) {
    let (x, w, b) = (normal(1, &[n, d]), normal(2, &[d]), normal(3, &[d]));
    // A larger ε if a row may be nearly constant: its curvature would defeat the differences.
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

/// Heads with `rest` channels that aren't rotated.
fn rotaries(b: usize, t: usize, h: usize, half: usize, rest: usize) {
    let (rows, k) = (t + 3, 2 * half + rest);
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
    let weights: Vec<f64> = (0..v).map(|label| 0.25 + (label % 5) as f64).collect();
    for (label_smoothing, weights) in [(0.0, vec![]), (0.1, vec![]), (0.1, weights)] {
        let options = CrossEntropyOptions { label_smoothing, weights: weights.into(), ..Default::default() };
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
    let dropout = Dropout { p: 0.25, key: Key::new(2, "weights"), first_row: 1 };
    for (i, mask) in masks(b, s).into_iter().enumerate() {
        let mask = mask.past(past);
        let rule = if i % 2 == 1 { Some(&dropout) } else { None };
        let options = AttentionOptions { scale: 0.4, mask: &mask, dropout: rule };
        let inputs = [normal(1, &[b, t, h, k]), normal(2, &[b, s, g, k]), normal(3, &[b, s, g, k])];
        let [q, keys, values] = inputs.clone();
        through!(attention, [q, keys, values], |op, x| op(&x[0], &x[1], &x[2], &options));
        if b > 0 {
            let [q, keys, values] = inputs;
            through!(biased_attention, [q, keys, values, normal(4, &[h, t, s])], |op, x| {
                Ok(op(&x[0], &x[1], &x[2], &x[3], &options)?.context_bthk)
            });
        }
    }
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
        adapted_linears(n, 2, (i, o), 2);
    }
    for (n, d) in [(1, 1), (3, 5), (2, 17), (65, 3), (4, 48), (0, 3)] {
        norms(n, d);
        softmaxes(n, d);
    }
    for (b, t, h, half) in [(1, 1, 1, 1), (2, 3, 2, 5), (1, 4, 3, 8), (0, 2, 1, 1)] {
        rotaries(b, t, h, half, 0);
        rotaries(b, t, h, half, 3);
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
        adapted_linears(n, 2, (i, o), 1 + n % 3);
    }

    #[test]
    fn drawn_norms(n in 1usize..5, d in 1usize..40) {
        norms(n, d);
        softmaxes(n, d);
    }

    #[test]
    fn drawn_rotaries(b in 1usize..3, t in 1usize..4, h in 1usize..3, half in 1usize..10) {
        rotaries(b, t, h, half, b - 1);
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
    fn drawn_attentions(b in 1usize..3, t in 1usize..6, past in 0usize..4, g in 1usize..3, each in 1usize..3, k in 1usize..7) {
        attentions(b, t, past, (g * each, g), k);
    }
}

/// Each operation with a reference is in this file or in sublayers.rs, except those that have no gradient to check.
#[test]
fn no_operation_is_left_out() {
    let library = include_str!("../src/lib.rs");
    let here = concat!(include_str!("operations.rs"), include_str!("sublayers.rs"));
    let block = library.split("pub mod reference {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = block.lines().filter_map(|line| line.trim().strip_prefix("pub use ")).flat_map(|line| {
        let last = line.trim_end_matches(';').rsplit("::").next().unwrap();
        last.trim_matches(['{', '}']).split(", ").map(str::to_string).collect::<Vec<_>>()
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 15, "{names:?}");
    // Checked against their references in promises.rs, or next to their code.
    let elsewhere =
        ["adamw", "average", "sgd", "muon", "orthogonalized", "attention_pattern", "with_reference"];
    let checks = concat!(
        include_str!("promises.rs"),
        include_str!("../src/muon/tests.rs"),
        include_str!("../src/optimizer/average.rs")
    );
    for name in names.iter().filter(|name| !elsewhere.contains(&name.as_str())) {
        assert!(here.contains(&format!("through!({name}, ")), "{name} does not go through the harness");
    }
    for name in elsewhere {
        assert!(checks.contains(name), "{name} is not checked");
    }
}
