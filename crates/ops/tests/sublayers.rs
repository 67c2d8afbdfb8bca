//! The fused sublayers through the harness, at odd shapes and at shapes drawn by proptest.
#![allow(clippy::unwrap_used, clippy::panic)]

mod harness;

use candle_core::{Result, Tensor};
use harness::{normal, through};
use proptest::prelude::*;
use vulpes_ops::{
    self as ops, Activation, AttentionLayer, AttentionOptions, Dropout, FeedForward, Linear, Mask, Norm,
    RotaryTables, reference,
};
use vulpes_random::Key;

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
        for activation in [Activation::GeluTanh, Activation::GeluErf, Activation::Relu2, Activation::Relu] {
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
                    query_norm: None,
                    key_norm: None,
                    d_head: k,
                    rotary: None,
                    bias: None,
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
                            query_norm: None,
                            key_norm: None,
                            d_head: k,
                            rotary: Some(RotaryTables { cos: &cos, sin: &sin, positions: None }),
                            bias: None,
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
                    query_norm: None,
                    key_norm: None,
                    d_head: k,
                    rotary: None,
                    bias: None,
                    attention,
                    residual: false,
                    dropout,
                },
            )
        });
    }
}

/// Norms of queries and keys, of each head and of all of them, with a rotation of a part of each head.
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
        let inputs: Vec<Tensor> = std::iter::once(x.clone()).chain(sides.clone()).chain(norms).collect();
        through!(attention_layer, inputs, |op, x| {
            let side = |i: usize| Linear { weight: &x[i], bias: None };
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
                    attention,
                    residual: true,
                    dropout: None,
                },
            )
        });
    }
}

/// A bias on the scores, with and without probabilities that are dropped.
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
            let side = |i: usize| Linear { weight: &x[i], bias: None };
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
                    attention,
                    residual: true,
                    dropout,
                },
            )
        });
    }
}

#[test]
fn sublayers() {
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
