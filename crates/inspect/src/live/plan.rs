//! The architecture as the page's script reads it: the layers, with a number for each parameter.
//!
//! Every layer is destructured field by field: a new field must be handled here, and is never ignored silently.

use std::convert::Infallible;

use candle_core::Tensor;
use serde_json::{Value, json};
use vulpes_model::layers::{Attention, Embedding, FeedForward};
use vulpes_model::{
    Block, ClassifierStep, HeadLayer, Layers, ModelConfig, Norm, Residual, Transform, config::BlockKind,
    config::Pooling, config::Positions,
};
use vulpes_ops::Linear;

use crate::way::name_of;

/// The plan of these layers: leaf i of [`Layers::leaves`] has the number i.
pub(super) fn of(layers: &Layers<Tensor>, config: &ModelConfig) -> Value {
    let mut count = 0;
    let Ok(numbered) = layers.try_map(&mut |_| {
        count += 1;
        Ok::<usize, Infallible>(count - 1)
    });
    let Layers { embedding, relative_bias, blocks, norm: last, head: of_head, kinds } = &numbered;
    let kinds: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let rope = kind.rope.map(|rope| {
                let (width, n_pair) = config.rotary_widths();
                let thetas = (0..n_pair).map(|i| {
                    let theta = rope.theta.powf(-2.0 * i as f64 / width as f64);
                    rope.scaling.map_or(theta, |scaling| scaling.scaled(theta))
                });
                thetas.collect::<Vec<f64>>()
            });
            json!({ "window": kind.window, "thetas": rope })
        })
        .collect();
    let Embedding {
        token,
        token_adapter: _,
        position,
        token_type,
        bigram: _,
        scale,
        norm: of_sum,
        dropout: _,
    } = embedding;
    json!({
        "context_len": config.context_len,
        "vocab_size": config.vocab_size,
        "n_output": config.head.n_labels().unwrap_or(config.vocab_size),
        "causal": config.mask == vulpes_model::config::MaskKind::Causal,
        "counts_from": (config.positions == Positions::Counted).then_some(config.pad_id).flatten(),
        "embedding": {
            "token": token, "position": position, "token_type": token_type, "scale": scale, "norm": maybe(of_sum),
        },
        "relative_bias": relative_bias,
        "kinds": kinds,
        "blocks": blocks.iter().map(block).collect::<Vec<_>>(),
        "norm": maybe(last),
        "head": head(of_head),
    })
}

fn block(block: &Block<usize>) -> Value {
    let Block { layer: _, kind, form, attention, feed_forward } = block;
    let side_by_side = match form {
        BlockKind::Parallel | BlockKind::ParallelShared => true,
        BlockKind::Bare | BlockKind::Pre | BlockKind::Post | BlockKind::Reordered | BlockKind::Sandwich => {
            false
        }
    };
    let Attention {
        layer: _,
        residual: around,
        query,
        key,
        value,
        output,
        query_norm,
        key_norm,
        value_embedding: _,
        d_head,
        n_head,
        n_kv_head,
        scale,
        dropout: _,
    } = attention;
    json!({
        "kind": kind,
        "parallel": side_by_side,
        "shared_norm": *form == BlockKind::ParallelShared,
        "attention": {
            "residual": residual(around), "query": linear(query), "key": linear(key), "value": linear(value),
            "output": output.as_ref().map(linear), "query_norm": maybe(query_norm), "key_norm": maybe(key_norm),
            "d_head": d_head, "n_head": n_head, "n_kv_head": n_kv_head, "scale": scale,
        },
        "feed_forward": feed_forward.as_ref().map(|inner| {
            let FeedForward { layer: _, residual: around, activation, gate, up, down } = inner;
            json!({
                "residual": residual(around), "activation": name_of(*activation),
                "gate": gate.as_ref().map(linear), "up": linear(up), "down": linear(down),
            })
        }),
    })
}

fn residual(residual: &Residual<usize>) -> Value {
    let Residual { before, branch, multiplier, after, add, dropout: _ } = residual;
    json!({
        "before": maybe(before), "branch": maybe(branch), "multiplier": multiplier, "after": maybe(after), "add": add,
    })
}

fn linear(linear: &Linear<usize>) -> Value {
    json!({ "weight": linear.weight, "bias": linear.bias })
}

fn maybe(norm: &Option<Norm<usize>>) -> Option<Value> {
    norm.as_ref().map(|norm| match norm {
        Norm::Layer { weight, bias, eps } => {
            json!({ "kind": "layer", "weight": weight, "bias": bias, "eps": eps })
        }
        Norm::Rms { weight, eps } => json!({ "kind": "rms", "weight": weight, "eps": eps }),
        // Models with one can't be run in a page.
        Norm::RmsBare { width: _, eps } => json!({ "kind": "rms", "weight": null, "eps": eps }),
        Norm::RmsPlusOne { weight, eps } => json!({ "kind": "rms_plus_one", "weight": weight, "eps": eps }),
    })
}

fn head(head: &HeadLayer<usize>) -> Value {
    match head {
        HeadLayer::Vocabulary { transform, weight, bias, divisor, softcap } => json!({
            "kind": "vocabulary", "transform": transform.as_ref().map(transformed), "weight": weight, "bias": bias,
            "divisor": divisor, "softcap": softcap,
        }),
        HeadLayer::Labels { pooling, pad_id, step, classifier, dropout: _ } => json!({
            "kind": "labels",
            "pooling": match pooling {
                Pooling::First => "first",
                Pooling::Mean => "mean",
                Pooling::Last => "last",
            },
            "pad_id": pad_id,
            "step": match step {
                ClassifierStep::None => Value::Null,
                ClassifierStep::Pooler(dense) => json!({ "dense": linear(dense), "activation": "tanh" }),
                ClassifierStep::Relu(dense) => json!({ "dense": linear(dense), "activation": "relu" }),
                ClassifierStep::Transform(transform) => transformed(transform),
            },
            "classifier": linear(classifier),
        }),
        HeadLayer::Hidden { pooler: _ } => json!({ "kind": "hidden" }),
    }
}

fn transformed(transform: &Transform<usize>) -> Value {
    let Transform { dense, activation, norm } = transform;
    json!({ "dense": linear(dense), "activation": activation.map(name_of), "norm": maybe(norm) })
}
