//! Who learns from a prediction: the gradient of its loss, by the part that each matrix plays in attention, by block,
//! and by parameter.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde::Serialize;
use vulpes_model::{Head, Input, Run, Transformer};
use vulpes_ops::{self as ops, CrossEntropyOptions, Gradients};

use crate::error::Error;
use crate::explanation::Explanation;
use crate::explanation::{NextToken, Subject};

/// The gradient of the loss by every parameter.
#[derive(Clone, Debug, Serialize)]
pub struct GradientFlow {
    /// The true token.
    pub target: NextToken,
    /// Cross-entropy at the asked token, in nats.
    pub loss: f64,
    /// The norm of all gradients together.
    pub norm: f64,
    /// By the part that a parameter plays, over all blocks, in the order in which the loss reaches them: Wout, the
    /// feed-forward layers, Wo, Wv, Wq, Wk, norms, embeddings.
    pub roles: Vec<Flow>,
    /// The parts of the model in its order: embedding, blocks, head.
    pub parts: Vec<Flow>,
    /// Every parameter.
    pub parameters: Vec<Flow>,
}

/// The gradient of one parameter, or of several together.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// The parameter's name, or what the parameters have in common.
    pub name: String,
    /// The gradient's Euclidean norm.
    pub norm: f64,
    /// Its share in the squared norm of all.
    pub share: f64,
}

/// The gradients of the loss that `target` has at the asked token; `model` is the subject's, with autograd.
///
/// # Errors
/// Where the model has no loss, or an operation fails.
pub fn gradient_flow(
    subject: &Subject,
    model: &Transformer,
    explanation: &Explanation,
    target: u32,
) -> Result<GradientFlow, Error> {
    let input = Input::new(&explanation.ids, 1, model.device())?;
    let hidden = model.forward(&input, &mut Run::inference())?;
    let asked = explanation.position.min(explanation.logits.len() - 1);
    let mut targets = vec![-100; explanation.logits.len()];
    targets[asked] = i64::from(target);
    let loss = model.loss(&hidden, &targets, &CrossEntropyOptions::default(), &Run::inference())?.sum;
    let named: Vec<_> = model.parameters().iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let mut gradients = Gradients::new(&named)?;
    ops::backward(&loss, &mut gradients)?;
    let square = |tensor: &Tensor| -> Result<f64, Error> {
        Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
    };
    let mut squares: Vec<(String, f64)> = Vec::new();
    for (name, gradient) in gradients.iter() {
        squares.push((name.to_owned(), gradient.map_or(Ok(0.0), square)?));
    }
    let total: f64 = squares.iter().map(|(_, square)| square).sum();
    // A prediction that is certain has no gradient at all, and nobody a share in it.
    let share = |square: f64| if total > 0.0 { square / total } else { 0.0 };
    let flow = |(name, square): (String, f64)| Flow { name, norm: square.sqrt(), share: share(square) };
    let by = |group: &dyn Fn(&str) -> (usize, String)| -> Vec<Flow> {
        let mut groups: BTreeMap<(usize, String), f64> = BTreeMap::new();
        squares.iter().for_each(|(name, square)| *groups.entry(group(name)).or_default() += square);
        groups.into_iter().map(|((_, name), square)| flow((name, square))).collect()
    };
    let tied = model.config().tied_head && matches!(model.config().head, Head::NextToken | Head::MaskedToken);
    let (roles, parts) = (by(&|name| role_of(name, tied)), by(&part_of));
    let logits = &explanation.logits[asked];
    Ok(GradientFlow {
        target: NextToken {
            id: target,
            text: subject.output(target),
            probability: crate::explanation::softmax(logits)[target as usize],
            logit: logits[target as usize],
        },
        loss: loss.to_dtype(DType::F64)?.to_scalar()?,
        norm: total.sqrt(),
        roles,
        parts,
        parameters: squares.into_iter().map(flow).collect(),
    })
}

/// The part that a parameter plays, with its place on the way of the loss through the model.
///
/// A tied vocabulary head is the embeddings' own matrix: its gradient is the sum of both uses.
fn role_of(name: &str, tied: bool) -> (usize, String) {
    let pieces: Vec<&str> = name.split('.').collect();
    let (place, role) = match pieces.as_slice() {
        [.., "norm", _] | ["norm", ..] => (6, "norms"),
        ["head", ..] => (0, "Wout"),
        ["embedding", "token", ..] if tied => (7, "embeddings, Wout too"),
        ["embedding", ..] => (7, "embeddings"),
        [.., "query", _] => (4, "Wq"),
        [.., "key", _] => (5, "Wk"),
        [.., "value", _] => (3, "Wv"),
        [.., "attention", "output", _] => (2, "Wo"),
        _ => (1, "feed-forward"),
    };
    (place, role.to_owned())
}

/// The part of the model that a parameter belongs to, with a number that puts the parts in the model's order.
fn part_of(name: &str) -> (usize, String) {
    let pieces: Vec<&str> = name.split('.').collect();
    match pieces.as_slice() {
        ["blocks", n, sublayer, ..] => {
            let layer = n.parse().unwrap_or(0);
            (
                1 + 2 * layer + usize::from(*sublayer != "attention"),
                format!("block {n}: {}", sublayer.replace('_', "-")),
            )
        }
        ["embedding", ..] => (0, "embedding".into()),
        [first, ..] => (usize::MAX - usize::from(*first == "norm"), (*first).to_owned()),
        [] => (0, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_has_its_part_in_the_words_of_attention() {
        for (name, role) in [
            ("embedding.token.weight", "embeddings"),
            ("embedding.norm.weight", "norms"),
            ("blocks.3.attention.query.bias", "Wq"),
            ("blocks.3.attention.key.weight", "Wk"),
            ("blocks.3.attention.value.weight", "Wv"),
            ("blocks.3.attention.output.weight", "Wo"),
            ("blocks.3.attention.norm.bias", "norms"),
            ("blocks.3.feed_forward.up.weight", "feed-forward"),
            ("norm.weight", "norms"),
            ("head.weight", "Wout"),
            ("head.bias", "Wout"),
            ("head.norm.weight", "norms"),
        ] {
            assert_eq!(role_of(name, false).1, role, "{name}");
        }
        assert_eq!(role_of("embedding.token.weight", true).1, "embeddings, Wout too");
        assert_eq!(role_of("embedding.position.weight", true).1, "embeddings");
    }
}
