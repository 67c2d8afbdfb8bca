//! What a prediction hangs on: how it forms layer by layer, what it loses without each token, and who learns from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use serde::Serialize;
use vulpes_model::{Head, Input, Recorder, Run, Site, Transformer};
use vulpes_ops::{self as ops, CrossEntropyOptions, Gradients};

use crate::explanation::{NextToken, Subject, next_tokens, seen, softmax};
use crate::{Error, Explanation};

/// What the model would say if it ended after some layer.
#[derive(Clone, Debug, Serialize)]
pub struct LensLayer {
    /// After what: `embedding`, `block 0`, ….
    pub after: String,
    /// The likeliest tokens there, through the final norm and the vocabulary head.
    pub next: Vec<NextToken>,
    /// The probability there of what the whole model finds likeliest.
    pub probability: f64,
}

/// What the asked token loses when attention to one token is cut off, in every layer and head.
#[derive(Clone, Debug, Serialize)]
pub struct Knockout {
    /// The place of the token that nobody may look at.
    pub position: usize,
    /// The change in the target's log-probability, in nats: below 0 the token was needed.
    pub change: f64,
}

/// The gradient of the loss by every parameter.
#[derive(Clone, Debug, Serialize)]
pub struct GradientFlow {
    /// The true token.
    pub target: NextToken,
    /// Cross-entropy at the asked token, in nats.
    pub loss: f64,
    /// The norm of all gradients together.
    pub norm: f64,
    /// The parts of the model in its order: embedding, blocks, head.
    pub parts: Vec<Flow>,
    /// Every parameter.
    pub parameters: Vec<Flow>,
}

/// The gradient of one parameter, or of a part of the model.
#[derive(Clone, Debug, Serialize)]
pub struct Flow {
    /// The parameter's name, or the part's.
    pub name: String,
    /// The gradient's Euclidean norm.
    pub norm: f64,
    /// Its share in the squared norm of all.
    pub share: f64,
}

/// The logit lens ([nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru)): the stream after each
/// block, read out as if the model ended there.
///
/// # Errors
/// Where an operation fails.
pub fn logit_lens(subject: &Subject, explanation: &Explanation) -> Result<Vec<LensLayer>, Error> {
    let model = subject.model;
    let (Head::NextToken | Head::MaskedToken, Some(top)) = (model.config().head, explanation.next.first())
    else {
        return Ok(Vec::new());
    };
    let input = Input::new(&explanation.ids, 1, model.device())?;
    let n_layer = model.config().n_layer;
    let sites: Vec<Site> = std::iter::once(Site::Embedding).chain((0..n_layer).map(Site::Block)).collect();
    let mut recorder = Recorder::of(&sites);
    subject.run(&input, &mut recorder)?;
    let mut layers = Vec::new();
    for site in sites {
        let stream = seen(&recorder, site)?.narrow(1, explanation.position, 1)?;
        // A bare block's stream can be narrower than the embedding: what the head can't read has no lens.
        if stream.dim(2)? != model.config().d_hidden() {
            continue;
        }
        let logits = model.logits(&model.read_out(&stream)?, &mut Run::inference())?;
        let logits: Vec<f32> = logits.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        layers.push(LensLayer {
            after: match site {
                Site::Block(layer) => format!("block {layer}"),
                _ => "embedding".into(),
            },
            next: next_tokens(&logits, 5, &|id| subject.output(id)),
            probability: softmax(&logits)[top.id as usize],
        });
    }
    Ok(layers)
}

/// Cuts attention to each token in turn, and sees what the asked token makes of `target` then.
///
/// The asked token itself is left alone.
///
/// # Errors
/// Where an operation fails.
pub fn knockouts(subject: &Subject, explanation: &Explanation, target: u32) -> Result<Vec<Knockout>, Error> {
    let (n, position) = (explanation.ids.len(), explanation.position);
    let asked = position.min(explanation.logits.len() - 1);
    let whole = softmax(&explanation.logits[asked])[target as usize].ln();
    let causal = subject.model.config().mask == vulpes_model::config::MaskKind::Causal;
    let cut: Vec<usize> = (0..n).filter(|&j| j != position && (!causal || j < position)).collect();
    let mut knockouts = Vec::new();
    for &j in &cut {
        let keep: Arc<[u8]> = (0..n).map(|i| u8::from(i != j)).collect();
        let input = Input::new(&explanation.ids, 1, subject.model.device())?.with_keep(keep);
        let logits = subject.run(&input, &mut Recorder::of(&[]))?;
        let without = softmax(&logits[asked])[target as usize].ln();
        knockouts.push(Knockout { position: j, change: without - whole });
    }
    Ok(knockouts)
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
    let flow = |(name, square): (String, f64)| Flow { name, norm: square.sqrt(), share: square / total };
    let mut parts: BTreeMap<(usize, String), f64> = BTreeMap::new();
    for (name, square) in &squares {
        *parts.entry(part_of(name)).or_default() += square;
    }
    let logits = &explanation.logits[asked];
    Ok(GradientFlow {
        target: NextToken {
            id: target,
            text: subject.output(target),
            probability: softmax(logits)[target as usize],
            logit: logits[target as usize],
        },
        loss: loss.to_dtype(DType::F64)?.to_scalar()?,
        norm: total.sqrt(),
        parts: parts.into_iter().map(|((_, name), square)| flow((name, square))).collect(),
        parameters: squares.into_iter().map(flow).collect(),
    })
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
