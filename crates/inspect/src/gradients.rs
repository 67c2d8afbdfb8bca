//! The gradient norms of one prediction's loss, by role in attention, by block and by parameter.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde::Serialize;
use vulpes_generate::NextToken;
use vulpes_model::{Head, Location, Part, Pass, Role, Transformer, parameter_specs};
use vulpes_ops::{self as ops, CrossEntropyOptions, Gradients};

use crate::error::Error;
use crate::explanation::{Explanation, Subject, softmax};

/// One backward pass: a loss, and its gradient with respect to every parameter.
#[derive(Debug)]
pub struct LossGradients {
    /// The true token.
    pub(crate) target: u32,
    /// Its cross-entropy at the target position, in nats.
    pub(crate) loss: f64,
    pub(crate) gradients: Gradients,
}

/// The gradient of the loss with respect to every parameter, as norms.
#[derive(Clone, Debug, Serialize)]
pub struct GradientFlow {
    /// The true token.
    pub target: NextToken,
    /// Cross-entropy at the target position, in nats.
    pub loss: f64,
    /// The norm of all gradients together.
    pub norm: f64,
    /// By the role of a parameter, over all blocks, in the order in which the loss reaches them: Wout, the
    /// feed-forward layers, Wo, Wv, Wq, Wk, norms, embeddings.
    pub roles: Vec<Flow>,
    /// By part of the model in forward order: embedding, blocks, head.
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
    /// Its share of the squared norm of all.
    pub share: f64,
}

/// The gradient norms of the loss; `model` is the subject's, with autograd.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn gradient_flow(
    subject: &Subject,
    model: &Transformer,
    explanation: &Explanation,
    of_loss: &LossGradients,
) -> Result<GradientFlow, Error> {
    let LossGradients { target, loss, gradients } = of_loss;
    let target = *target;
    let asked = explanation.position.min(explanation.logits.len() - 1);
    let square = |tensor: &Tensor| -> Result<f64, Error> {
        Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
    };
    let mut squares: Vec<(String, f64)> = Vec::new();
    for (name, gradient) in gradients.iter() {
        squares.push((name.to_owned(), gradient.map_or(Ok(0.0), square)?));
    }
    let total: f64 = squares.iter().map(|(_, square)| square).sum();
    // A prediction that is certain has no gradient at all, so all shares are 0.
    let share = |square: f64| if total > 0.0 { square / total } else { 0.0 };
    let flow = |(name, square): (String, f64)| Flow { name, norm: square.sqrt(), share: share(square) };
    let roles: BTreeMap<String, Role> =
        parameter_specs(model.config()).into_iter().map(|spec| (spec.name, spec.role)).collect();
    let by = |group: &dyn Fn(&Role) -> (usize, String)| -> Vec<Flow> {
        let mut groups: BTreeMap<(usize, String), f64> = BTreeMap::new();
        for (role, square) in squares.iter().filter_map(|(name, square)| Some((roles.get(name)?, square))) {
            *groups.entry(group(role)).or_default() += square;
        }
        groups.into_iter().map(|((_, name), square)| flow((name, square))).collect()
    };
    let tied = model.config().tied_head && matches!(model.config().head, Head::NextToken | Head::MaskedToken);
    let (roles, parts) = (by(&|role| group_of(role, tied)), by(&location_of));
    let logits = &explanation.logits[asked];
    Ok(GradientFlow {
        target: NextToken {
            id: target,
            text: subject.output(target),
            probability: softmax(logits)[target as usize],
            logit: logits[target as usize],
        },
        loss: *loss,
        norm: total.sqrt(),
        roles,
        parts,
        parameters: squares.into_iter().map(flow).collect(),
    })
}

/// The gradients of the loss of `target` at the target position; `model` is the subject's, with autograd.
///
/// # Errors
/// Returns an error if the model has no loss, or an operation fails.
pub fn loss_gradients(
    model: &Transformer,
    explanation: &Explanation,
    target: u32,
) -> Result<LossGradients, Error> {
    let input = explanation.input(model)?;
    let hidden = model.forward(&input, &mut Pass::inference())?;
    let hidden = model.read_by_head(&hidden, &input)?;
    let asked = explanation.position.min(explanation.logits.len() - 1);
    let mut targets = vec![-100; explanation.logits.len()];
    targets[asked] = i64::from(target);
    let loss = model.loss(&hidden, &targets, &CrossEntropyOptions::default(), &Pass::inference())?.sum;
    let named: Vec<_> = model.parameters().iter().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let mut gradients = Gradients::new(&named)?;
    ops::backward(&loss, &mut gradients)?;
    Ok(LossGradients { target, loss: loss.to_dtype(DType::F64)?.to_scalar()?, gradients })
}

/// The name of a parameter's role in attention, with a number that sorts the roles in the order in which the loss
/// reaches them.
///
/// A tied vocabulary head is the embeddings' own matrix: its gradient is the sum of both uses.
fn group_of(role: &Role, tied: bool) -> (usize, String) {
    let (order, name) = match role.part {
        Part::Head => (0, "Wout"),
        Part::FeedForward => (1, "feed-forward"),
        Part::AttentionOutput => (2, "Wo"),
        Part::Value => (3, "Wv"),
        Part::Query => (4, "Wq"),
        Part::Key => (5, "Wk"),
        Part::Norm => (6, "norms"),
        Part::Token if tied => (7, "embeddings, Wout too"),
        Part::Token | Part::Position | Part::TokenType | Part::Pair => (7, "embeddings"),
    };
    (order, name.to_owned())
}

/// Where in the model a parameter is, with a number that sorts the locations in forward order.
fn location_of(role: &Role) -> (usize, String) {
    match role.location {
        Location::Embedding => (0, "embedding".into()),
        Location::Attention { layer } => (1 + 2 * layer, format!("block {layer}: attention")),
        Location::FeedForward { layer } => (2 + 2 * layer, format!("block {layer}: feed-forward")),
        Location::FinalNorm => (usize::MAX - 1, "norm".into()),
        Location::Head => (usize::MAX, "head".into()),
    }
}

#[cfg(test)]
mod tests {
    use vulpes_model::ModelSection;
    use vulpes_model::config::Family;

    use super::*;

    #[test]
    fn every_parameter_has_its_role() {
        let section = ModelSection { family: Some(Family::Bert), ..ModelSection::default() };
        let specs = parameter_specs(&section.resolve(20, Head::MaskedToken));
        let role = |name: &str| specs.iter().find(|spec| spec.name == name).expect(name).role;
        for (name, group, location) in [
            ("embedding.token.weight", "embeddings", "embedding"),
            ("embedding.norm.weight", "norms", "embedding"),
            ("blocks.3.attention.query.bias", "Wq", "block 3: attention"),
            ("blocks.3.attention.key.weight", "Wk", "block 3: attention"),
            ("blocks.3.attention.value.weight", "Wv", "block 3: attention"),
            ("blocks.3.attention.output.weight", "Wo", "block 3: attention"),
            ("blocks.3.attention.norm.bias", "norms", "block 3: attention"),
            ("blocks.3.feed_forward.up.weight", "feed-forward", "block 3: feed-forward"),
            ("head.bias", "Wout", "head"),
            ("head.transform.weight", "Wout", "head"),
            ("head.norm.weight", "norms", "head"),
        ] {
            assert_eq!(group_of(&role(name), false).1, group, "{name}");
            assert_eq!(location_of(&role(name)).1, location, "{name}");
        }
        assert_eq!(group_of(&role("embedding.token.weight"), true).1, "embeddings, Wout too");
        assert_eq!(group_of(&role("embedding.position.weight"), true).1, "embeddings");
    }
}
