//! The logit lens, attention knockouts and the head's projection of one prediction.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use serde::Serialize;
use vulpes_generate::NextToken;
use vulpes_model::{Head, HeadLayer, Pass, Recorder, Site};

use crate::error::Error;
use crate::explanation::Explanation;
use crate::explanation::{Subject, next_tokens, seen, softmax};
use crate::way::kept;

/// The prediction that the model would make if it ended after some layer.
#[derive(Clone, Debug, Serialize)]
pub struct LensLayer {
    /// The layer: `embedding`, `block 0`, ….
    pub after: String,
    /// The most likely tokens there, through the final norm and the vocabulary head.
    pub next: Vec<NextToken>,
    /// The probability there of the complete model's most likely output.
    pub probability: f64,
}

/// The target's loss when attention to one token is cut off, in every layer and head.
#[derive(Clone, Debug, Serialize)]
pub struct Knockout {
    /// The position of the token that is hidden.
    pub position: usize,
    /// The change in the target's log-probability, in nats: below 0 the token was needed.
    pub change: f64,
}

/// The rows of the head's last matrix for the most likely outputs: `logit = row · vector [+ bias]`.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The outputs, words or labels, each once.
    pub ids: Vec<u32>,
    /// The width of a row.
    pub width: usize,
    /// The row of each output, `[n][d]`; of wide ones the first values.
    pub rows: Vec<Vec<f32>>,
    /// The bias of each output, `[n]`.
    pub bias: Option<Vec<f32>>,
    /// Whether the matrix is the embedding table itself.
    pub is_tied: bool,
}

/// The logit lens ([nostalgebraist 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru)): the residual stream
/// after each block, decoded as if the model ended there.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn logit_lens(subject: &Subject, explanation: &Explanation) -> Result<Vec<LensLayer>, Error> {
    let model = subject.model;
    let (Head::NextToken | Head::MaskedToken, Some(top)) = (model.config().head, explanation.next.first())
    else {
        return Ok(Vec::new());
    };
    let input = explanation.input(model)?;
    let n_layer = model.config().n_layer;
    let sites: Vec<Site> = std::iter::once(Site::Embedding).chain((0..n_layer).map(Site::Block)).collect();
    let mut recorder = Recorder::of(&sites);
    subject.run(&input, &mut recorder)?;
    let mut layers = Vec::new();
    for site in sites {
        let stream = seen(&recorder, site)?.narrow(1, explanation.position, 1)?;
        // A bare block's stream can be narrower than the embedding: if the head can't read it, there is no lens.
        if stream.dim(2)? != model.config().d_hidden() {
            continue;
        }
        let logits = model.logits(&model.read_out(&stream)?, &mut Pass::inference())?;
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

/// Cuts attention to each token in turn, and measures the effect on `target`.
///
/// The target position itself is never cut.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn knockouts(subject: &Subject, explanation: &Explanation, target: u32) -> Result<Vec<Knockout>, Error> {
    let (n, position) = (explanation.ids.len(), explanation.position);
    let asked = position.min(explanation.logits.len() - 1);
    let whole = softmax(&explanation.logits[asked])[target as usize].ln();
    let causal = subject.model.config().mask == vulpes_model::config::MaskKind::Causal;
    let cut: Vec<usize> = (0..n).filter(|&j| j != position && (!causal || j < position)).collect();
    let mut knockouts = Vec::new();
    for &j in &cut {
        let padding_mask: Arc<[u8]> = (0..n).map(|i| u8::from(i != j)).collect();
        let input = explanation.input(subject.model)?.with_padding_mask(padding_mask);
        let logits = subject.run(&input, &mut Recorder::of(&[]))?;
        let without = softmax(&logits[asked])[target as usize].ln();
        knockouts.push(Knockout { position: j, change: without - whole });
    }
    Ok(knockouts)
}

/// The rows of the head's matrix for the `n` most likely outputs of every token; `None` for a model without a head.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn projection(
    subject: &Subject,
    explanation: &Explanation,
    n: usize,
) -> Result<Option<Projection>, Error> {
    let layers = subject.model.layers();
    let (weight, bias, is_tied) = match &layers.head {
        // Capped logits are not a plain product.
        HeadLayer::Vocabulary { softcap: Some(_), .. } => return Ok(None),
        HeadLayer::Vocabulary { weight, bias, .. } => {
            (weight.as_ref().unwrap_or(&layers.embedding.token), bias.as_ref(), weight.is_none())
        }
        HeadLayer::Labels { classifier, .. } => (&classifier.weight, classifier.bias.as_ref(), false),
        HeadLayer::Hidden { .. } => return Ok(None),
    };
    let listed = |logits: &Vec<f32>| next_tokens(logits, n, &|_| String::new());
    let ids: BTreeSet<u32> = explanation.logits.iter().flat_map(listed).map(|next| next.id).collect();
    let width = weight.dim(1)?;
    let row = |&id: &u32| -> Result<Vec<f32>, Error> {
        Ok(weight.get(id as usize)?.narrow(0, 0, kept(width))?.to_dtype(DType::F32)?.to_vec1()?)
    };
    let of_bias = |bias: &Tensor| -> Result<Vec<f32>, Error> {
        let all: Vec<f32> = bias.to_dtype(DType::F32)?.to_vec1()?;
        Ok(ids.iter().map(|&id| all[id as usize]).collect())
    };
    Ok(Some(Projection {
        rows: ids.iter().map(row).collect::<Result<_, _>>()?,
        bias: bias.map(of_bias).transpose()?,
        ids: ids.into_iter().collect(),
        width,
        is_tied,
    }))
}
