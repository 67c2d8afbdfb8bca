//! The equations of one layer.

use candle_core::Tensor;
use vulpes_model::config::BlockKind;
use vulpes_model::{Block, ModelConfig, Residual, Site};

use super::writer::{Writer, name_of};
use crate::error::Error;

/// The sites of a layer that the probe records; attention maps are in the explanation itself.
pub(super) fn sites(layer: usize) -> [Site; 19] {
    [
        layer.checked_sub(1).map_or(Site::Embedding, Site::Block),
        Site::AttentionInput(layer),
        Site::Cosines(layer),
        Site::Sines(layer),
        Site::UnrotatedQuery(layer),
        Site::UnrotatedKey(layer),
        Site::Context(layer),
        Site::AttentionOutput(layer),
        Site::AttentionBranch(layer),
        Site::AttentionSum(layer),
        Site::Middle(layer),
        Site::FeedForwardInput(layer),
        Site::FeedForwardGate(layer),
        Site::FeedForwardUp(layer),
        Site::FeedForwardInner(layer),
        Site::FeedForwardOutput(layer),
        Site::FeedForwardBranch(layer),
        Site::FeedForwardSum(layer),
        Site::Block(layer),
    ]
}

/// From x, the layer's input, to its output: y after attention, z after the feed-forward.
///
/// Queries, keys and values are formulas only: their values are stored with each head.
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
    for (name, parameters, projection, norm, unrotated) in [
        ("Q", ("Wq", "bq"), &attention.query, &attention.query_norm, Some(Site::UnrotatedQuery(layer))),
        ("K", ("Wk", "bk"), &attention.key, &attention.key_norm, Some(Site::UnrotatedKey(layer))),
        ("V", ("Wv", "bv"), &attention.value, &None, None),
    ] {
        let mut formula = writer.projected(parameters, read, projection)?;
        if name == "V" && attention.value_embedding.is_some() {
            formula += " + the token's own";
        }
        let before = unrotated.filter(|_| rotates);
        let turned = if before.is_some() { format!("{name}₀") } else { name.to_owned() };
        match (norm, before) {
            (Some(norm), before) => {
                let projected = format!("{name}ₚ");
                writer.formula(&projected, formula);
                let gamma = if name == "Q" { "q" } else { "k" };
                writer.normed_heads(&turned, (&projected, gamma), norm, before, attention.d_head)?;
            }
            (None, Some(before)) => writer.equation(&turned, formula, before)?,
            (None, None) => writer.formula(&turned, formula),
        }
        if before.is_some() {
            writer.formula(name, format!("rotate({name}₀)"));
        }
    }
    if rotates {
        writer.given("cos", Site::Cosines(layer))?;
        writer.given("sin", Site::Sines(layer))?;
    }
    let contexts = if attention.n_head == 1 { "context" } else { "contexts" };
    writer.given(contexts, Site::Context(layer))?;
    let Some(output) = &attention.output else {
        // A bare block outputs its contexts, and adds nothing.
        return writer.equation("z", contexts.into(), Site::Block(layer));
    };
    writer.linear("attention", ("Wo", "bo"), contexts, output, Site::AttentionOutput(layer))?;
    let added = branch(residual, ("attention", "added", "₃"), Site::AttentionBranch(layer), writer)?;
    let sum = if residual.add { format!("x + {added}") } else { added.into() };
    match &residual.after {
        Some(norm) => {
            writer.equation("s", sum, Site::AttentionSum(layer))?;
            writer.normed("y", "s", norm, "₁", Site::Middle(layer))?;
        }
        None => writer.equation("y", sum, Site::Middle(layer))?,
    }
    let Some(inner) = &block.feed_forward else {
        return writer.equation("z", "y".into(), Site::Block(layer));
    };
    let read = match &inner.residual.before {
        Some(norm) if block.form == BlockKind::Parallel => {
            writer.normed("norm₂(x)", "x", norm, "₂", Site::FeedForwardInput(layer))?;
            "norm₂(x)"
        }
        None if block.form == BlockKind::ParallelShared => "norm(x)",
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
    let added = branch(&inner.residual, ("ff", "added₂", "₄"), Site::FeedForwardBranch(layer), writer)?;
    let sum = if inner.residual.add { format!("y + {added}") } else { added.into() };
    match &inner.residual.after {
        Some(norm) => {
            writer.equation("t", sum, Site::FeedForwardSum(layer))?;
            writer.normed("z", "t", norm, "₂", Site::Block(layer))
        }
        None => writer.equation("z", sum, Site::Block(layer)),
    }
}

/// The branch of a sublayer before it is added: its norm, times a factor; returns the name of what is added.
fn branch<'n>(
    residual: &Residual<Tensor>,
    (result, added, mark): (&'n str, &'n str, &str),
    site: Site,
    writer: &mut Writer,
) -> Result<&'n str, Error> {
    let is_scaled = residual.multiplier != 1.0;
    match &residual.branch {
        Some(_) if is_scaled => {
            // Only the result of the factor was recorded.
            writer.formula("normed", format!("norm({result})"));
        }
        Some(norm) => writer.normed(added, result, norm, mark, site)?,
        None if !is_scaled => return Ok(result),
        None => {}
    }
    if is_scaled {
        writer.number("multiplier", residual.multiplier);
        let of = if residual.branch.is_some() { "normed" } else { result };
        writer.equation(added, format!("multiplier × {of}"), site)?;
    }
    Ok(added)
}
