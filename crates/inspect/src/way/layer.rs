//! The equations of one layer.

use candle_core::Tensor;
use vulpes_model::{Block, ModelConfig, Site};

use super::{Writer, name_of};
use crate::error::Error;

/// What the probe is to see of a layer; attention maps are the explanation's own.
pub(super) fn sites(layer: usize) -> [Site; 17] {
    [
        layer.checked_sub(1).map_or(Site::Embedding, Site::Block),
        Site::AttentionInput(layer),
        Site::Cosines(layer),
        Site::Sines(layer),
        Site::UnturnedQuery(layer),
        Site::UnturnedKey(layer),
        Site::Context(layer),
        Site::AttentionOutput(layer),
        Site::AttentionSum(layer),
        Site::Middle(layer),
        Site::FeedForwardInput(layer),
        Site::FeedForwardGate(layer),
        Site::FeedForwardUp(layer),
        Site::FeedForwardInner(layer),
        Site::FeedForwardOutput(layer),
        Site::FeedForwardSum(layer),
        Site::Block(layer),
    ]
}

/// From x, what the layer reads, to what it hands on: y after attention, z after the feed-forward.
///
/// Queries, keys and values are formulas alone: their numbers stand with each head.
pub(super) fn write(block: &Block<Tensor>, config: &ModelConfig, writer: &mut Writer) -> Result<(), Error> {
    let layer = block.layer;
    let attention = &block.attention;
    let residual = &attention.residual;
    writer.given("x", layer.checked_sub(1).map_or(Site::Embedding, Site::Block))?;
    let read = match &residual.before {
        Some(norm) => {
            writer.normed("norm(x)", "x", norm, "₁", Site::AttentionInput(layer))?;
            "norm(x)"
        }
        None => "x",
    };
    let rotates = config.layer_kind(layer).rope.is_some();
    for (name, parameters, projection, unturned) in [
        ("Q", ("Wq", "bq"), &attention.query, Some(Site::UnturnedQuery(layer))),
        ("K", ("Wk", "bk"), &attention.key, Some(Site::UnturnedKey(layer))),
        ("V", ("Wv", "bv"), &attention.value, None),
    ] {
        let formula = writer.projected(parameters, read, projection)?;
        match unturned.filter(|_| rotates) {
            Some(before) => {
                writer.equation(&format!("{name}₀"), formula, before)?;
                writer.formula(name, format!("rotate({name}₀)"));
            }
            None => writer.formula(name, formula),
        }
    }
    if rotates {
        writer.given("cos", Site::Cosines(layer))?;
        writer.given("sin", Site::Sines(layer))?;
    }
    let contexts = if attention.n_head == 1 { "context" } else { "contexts" };
    writer.given(contexts, Site::Context(layer))?;
    let Some(output) = &attention.output else {
        // A bare block hands on its contexts, and adds nothing.
        return writer.equation("z", contexts.into(), Site::Block(layer));
    };
    writer.linear("attention", ("Wo", "bo"), contexts, output, Site::AttentionOutput(layer))?;
    let sum = if residual.add { "x + attention" } else { "attention" };
    match &residual.after {
        Some(norm) => {
            writer.equation("s", sum.into(), Site::AttentionSum(layer))?;
            writer.normed("y", "s", norm, "₁", Site::Middle(layer))?;
        }
        None => writer.equation("y", sum.into(), Site::Middle(layer))?,
    }
    let Some(inner) = &block.feed_forward else {
        return writer.equation("z", "y".into(), Site::Block(layer));
    };
    let read = match &inner.residual.before {
        Some(norm) => {
            writer.normed("norm(y)", "y", norm, "₂", Site::FeedForwardInput(layer))?;
            "norm(y)"
        }
        None => "y",
    };
    writer.linear("up", ("Wup", "bup"), read, &inner.up, Site::FeedForwardUp(layer))?;
    let activation = name_of(inner.activation);
    let formula = match &inner.gate {
        Some(gate) => {
            writer.linear("gate", ("Wgate", "bgate"), read, gate, Site::FeedForwardGate(layer))?;
            format!("{activation}(gate) × up")
        }
        None => format!("{activation}(up)"),
    };
    writer.equation("inner", formula, Site::FeedForwardInner(layer))?;
    writer.linear("ff", ("Wdown", "bdown"), "inner", &inner.down, Site::FeedForwardOutput(layer))?;
    let sum = if inner.residual.add { "y + ff" } else { "ff" };
    match &inner.residual.after {
        Some(norm) => {
            writer.equation("t", sum.into(), Site::FeedForwardSum(layer))?;
            writer.normed("z", "t", norm, "₂", Site::Block(layer))
        }
        None => writer.equation("z", sum.into(), Site::Block(layer)),
    }
}
