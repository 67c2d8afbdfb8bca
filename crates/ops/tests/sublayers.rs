//! The fused sublayers through the harness, at odd shapes and at shapes drawn by proptest.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use candle_core::{Result, Tensor};
use harness::{normal, through};
use proptest::prelude::*;
use vulpes_ops::{
    self as ops, Activation, Adapter, AttentionLayer, AttentionOptions, Dropout, FeedForward, Linear, Mask,
    Norm, RotaryTables, reference,
};
use vulpes_random::Key;

/// Weights scaled like trained ones: their sums stay near 1.
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
        for activation in [Activation::GeluTanh, Activation::GeluErf, Activation::Relu2, Activation::Relu] {
            let [x, norm, shift, up, up_bias, down, down_bias] = inputs.clone();
            through!(feed_forward, [x, norm, shift, up, up_bias, down, down_bias], |op, x| {
                let norm = Norm::Layer { weight: &x[1], bias: Some(&x[2]), eps: 0.05 };
                op(
                    &x[0],
                    &FeedForward {
                        norm: Some(norm),
                        gate: None,
                        up: Linear { weight: &x[3], bias: Some(&x[4]), adapter: None },
                        down: Linear { weight: &x[5], bias: Some(&x[6]), adapter: None },
                        activation,
                        residual: true,
                        dropout,
                        adapter_dropout: None,
                    },
                )
            });
        }
        through!(feed_forward, [x.clone(), norm.clone(), gate.clone(), up.clone(), down.clone()], |op, x| {
            op(
                &x[0],
                &FeedForward {
                    norm: Some(Norm::Rms { weight: &x[1], eps: 0.05 }),
                    gate: Some(Linear { weight: &x[2], bias: None, adapter: None }),
                    up: Linear { weight: &x[3], bias: None, adapter: None },
                    down: Linear { weight: &x[4], bias: None, adapter: None },
                    activation: Activation::Silu,
                    residual: true,
                    dropout,
                    adapter_dropout: None,
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
                        gate: Some(Linear { weight: &x[1], bias: Some(&x[2]), adapter: None }),
                        up: Linear { weight: &x[3], bias: Some(&x[4]), adapter: None },
                        down: Linear { weight: &x[5], bias: None, adapter: None },
                        activation: Activation::GeluTanh,
                        residual,
                        dropout,
                        adapter_dropout: None,
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
    let padded = Mask::full().padding(b, t, keep.into());
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
            let side = |i: usize| Linear { weight: &x[i], bias: Some(&x[i + 1]), adapter: None };
            op(
                &x[0],
                &AttentionLayer {
                    norm: Some(Norm::Layer { weight: &x[1], bias: Some(&x[2]), eps: 0.05 }),
                    query: side(3),
                    key: side(5),
                    value: side(7),
                    output: Some(side(9)),
                    query_norm: None,
                    key_norm: None,
                    d_head: k,
                    rotary: None,
                    bias: None,
                    added_values: None,
                    attention,
                    residual: true,
                    dropout,
                    adapter_dropout: None,
                },
            )
        });
        for residual in [false, true] {
            through!(
                attention_layer,
                [x.clone(), norm.clone(), q.clone(), keys.clone(), values.clone(), out.clone()],
                |op, x| {
                    let side = |i: usize| Linear { weight: &x[i], bias: None, adapter: None };
                    let (cos, sin) = (cos.to_dtype(x[0].dtype())?, sin.to_dtype(x[0].dtype())?);
                    op(
                        &x[0],
                        &AttentionLayer {
                            norm: residual.then_some(Norm::Rms { weight: &x[1], eps: 0.05 }),
                            query: side(2),
                            key: side(3),
                            value: side(4),
                            output: Some(side(5)),
                            query_norm: None,
                            key_norm: None,
                            d_head: k,
                            rotary: Some(RotaryTables { cos: &cos, sin: &sin, positions: None }),
                            bias: None,
                            added_values: None,
                            attention,
                            residual,
                            dropout,
                            adapter_dropout: None,
                        },
                    )
                }
            );
        }
        through!(attention_layer, [x.clone(), q.clone(), keys.clone(), values.clone()], |op, x| {
            let side = |i: usize| Linear { weight: &x[i], bias: None, adapter: None };
            op(
                &x[0],
                &AttentionLayer {
                    norm: None,
                    query: side(1),
                    key: side(2),
                    value: side(3),
                    output: None,
                    query_norm: None,
                    key_norm: None,
                    d_head: k,
                    rotary: None,
                    bias: None,
                    added_values: None,
                    attention,
                    residual: false,
                    dropout,
                    adapter_dropout: None,
                },
            )
        });
    }
}

/// Low-rank changes of every projection, with dropout of their inputs and of what is added to the residual stream.
fn adapted(b: usize, t: usize, (h, g): (usize, usize), k: usize, (d, f): (usize, usize), rank: usize) {
    let rule = Dropout { p: 0.3, key: Key::new(4, "dropout"), first_row: 1 };
    let mask = Mask::causal();
    let attention = AttentionOptions { scale: 0.5, mask: &mask, dropout: None };
    let x = normal(1, &[b, t, d]);
    // Each projection's weight, A and B; queries, keys and values share one A.
    let shapes = [(h * k, d), (g * k, d), (g * k, d), (d, h * k)];
    let low = |key: u64, (o, i): (usize, usize)| {
        [weight(key, o, i), weight(key + 20, rank, i), weight(key + 40, o, rank)]
    };
    let sides = shapes.iter().zip(2..).flat_map(|(shape, key)| low(key, *shape));
    let inputs: Vec<Tensor> = std::iter::once(x.clone()).chain(sides).collect();
    for (dropout, residual) in [(None, true), (Some(&rule), true), (Some(&rule), false)] {
        through!(attention_layer, inputs.clone(), |op, x| {
            let side = |i: usize, a: usize, draw: u64| {
                let adapter = Adapter { a: &x[a], b: &x[i + 2], magnitude: None, scale: 0.8, draw };
                Linear { weight: &x[i], bias: None, adapter: Some(adapter) }
            };
            op(
                &x[0],
                &AttentionLayer {
                    norm: None,
                    query: side(1, 2, 0),
                    key: side(4, 2, 0),
                    value: side(7, 8, 1),
                    output: Some(side(10, 11, 2)),
                    query_norm: None,
                    key_norm: None,
                    d_head: k,
                    rotary: None,
                    bias: None,
                    added_values: None,
                    attention,
                    residual,
                    dropout,
                    adapter_dropout: dropout,
                },
            )
        });
        let sides = [(f, d), (f, d), (d, f)].into_iter().zip(2..).flat_map(|(shape, key)| low(key, shape));
        let inputs: Vec<Tensor> = [x.clone(), normal(9, &[d])].into_iter().chain(sides).collect();
        through!(feed_forward, inputs, |op, x| {
            let side = |i: usize| {
                let adapter =
                    Adapter { a: &x[i + 1], b: &x[i + 2], magnitude: None, scale: 0.8, draw: i as u64 };
                Linear { weight: &x[i], bias: None, adapter: Some(adapter) }
            };
            op(
                &x[0],
                &FeedForward {
                    norm: Some(Norm::Rms { weight: &x[1], eps: 0.05 }),
                    gate: Some(side(2)),
                    up: side(5),
                    down: side(8),
                    activation: Activation::Silu,
                    residual,
                    dropout,
                    adapter_dropout: dropout,
                },
            )
        });
    }
}

/// Norms of queries and keys, per head and over all heads, with rotation of a part of each head.
fn normed_heads(b: usize, t: usize, (h, g): (usize, usize), (half, rest): (usize, usize), d: usize) {
    let k = 2 * half + rest;
    let angles = normal(20, &[t + 2, half]);
    let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
    let mask = Mask::causal();
    let attention = AttentionOptions { scale: 0.5, mask: &mask, dropout: None };
    let x = normal(1, &[b, t, d]);
    let sides = [weight(2, h * k, d), weight(3, g * k, d), weight(4, g * k, d), weight(5, d, h * k)];
    for whole in [false, true] {
        let width = |heads: usize| if whole { heads * k } else { k };
        let norms = [normal(6, &[width(h)]), normal(7, &[width(g)]), normal(8, &[width(h)])];
        let added = normal(9, &[b, t, g * k]);
        let inputs = std::iter::once(x.clone()).chain(sides.clone()).chain(norms).chain([added]);
        let inputs: Vec<Tensor> = inputs.collect();
        through!(attention_layer, inputs, |op, x| {
            let side = |i: usize| Linear { weight: &x[i], bias: None, adapter: None };
            let (cos, sin) = (cos.to_dtype(x[0].dtype())?, sin.to_dtype(x[0].dtype())?);
            op(
                &x[0],
                &AttentionLayer {
                    norm: None,
                    query: side(1),
                    key: side(2),
                    value: side(3),
                    output: Some(side(4)),
                    query_norm: Some(Norm::Layer { weight: &x[5], bias: Some(&x[7]), eps: 0.05 }),
                    key_norm: Some(Norm::Rms { weight: &x[6], eps: 0.05 }),
                    d_head: k,
                    rotary: Some(RotaryTables { cos: &cos, sin: &sin, positions: None }),
                    bias: None,
                    added_values: Some(&x[8]),
                    attention,
                    residual: true,
                    dropout: None,
                    adapter_dropout: None,
                },
            )
        });
    }
}

/// A bias on the scores, with and without dropout.
fn biased(b: usize, t: usize, (h, g): (usize, usize), k: usize, d: usize) {
    let rule = Dropout { p: 0.3, key: Key::new(4, "dropout"), first_row: 1 };
    let mask = Mask::full();
    for dropout in [None, Some(&rule)] {
        let attention = AttentionOptions { scale: 0.5, mask: &mask, dropout };
        let inputs = [
            normal(1, &[b, t, d]),
            weight(2, h * k, d),
            weight(3, g * k, d),
            weight(4, g * k, d),
            weight(5, d, h * k),
            normal(6, &[h, t, t]),
        ];
        through!(attention_layer, inputs.to_vec(), |op, x| {
            let side = |i: usize| Linear { weight: &x[i], bias: None, adapter: None };
            op(
                &x[0],
                &AttentionLayer {
                    norm: None,
                    query: side(1),
                    key: side(2),
                    value: side(3),
                    output: Some(side(4)),
                    query_norm: None,
                    key_norm: None,
                    d_head: k,
                    rotary: None,
                    bias: Some(&x[5]),
                    added_values: None,
                    attention,
                    residual: true,
                    dropout,
                    adapter_dropout: None,
                },
            )
        });
    }
}

#[test]
fn sublayers() {
    adapted(1, 1, (1, 1), 1, (1, 1), 1);
    adapted(2, 3, (2, 1), 2, (3, 5), 2);
    adapted(0, 2, (2, 1), 1, (3, 4), 2);
    biased(1, 1, (1, 1), 1, 1);
    biased(2, 3, (4, 2), 3, 5);
    normed_heads(1, 1, (1, 1), (1, 0), 1);
    normed_heads(2, 3, (2, 1), (1, 3), 3);
    normed_heads(1, 4, (4, 2), (2, 1), 5);
    normed_heads(0, 2, (2, 1), (1, 1), 3);
    feed_forwards(1, 1, 1, 1);
    feed_forwards(2, 3, 5, 7);
    feed_forwards(0, 2, 3, 4);
    attention_layers(1, 1, (1, 1), 1, 1);
    attention_layers(2, 3, (2, 1), 1, 3);
    attention_layers(2, 4, (2, 2), 2, 5);
    attention_layers(0, 2, (2, 1), 1, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_sublayers(b in 1usize..3, t in 1usize..4, d in 2usize..6, f in 1usize..9, g in 1usize..3, half in 1usize..3) {
        feed_forwards(b, t, d, f);
        attention_layers(b, t, (2 * g, g), half, d);
        normed_heads(b, t, (2 * g, g), (half, f % 3), d);
    }
}
