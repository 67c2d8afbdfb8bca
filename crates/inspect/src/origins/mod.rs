//! Why a head attends where it does: a score split over the sources of its query and its key.
//!
//! The input of attention is a sum: embeddings, the outputs of earlier heads and feed-forward layers, biases. With
//! the scale of each norm held fixed, everything from there to queries and keys is linear, so a query is the sum of
//! the contributions of the parts, a key likewise, and the score is the sum over all pairs of parts
//! ([Elhage et al. 2021](https://transformer-circuits.pub/2021/framework/index.html)):
//!
//! `score(i, j) = Σ_a Σ_b scale · q_a(i) · k_b(j) [+ the bias of the distance]`
//!
//! Rotation is linear, too: each part is rotated by the angle of its position. Computed in float64 from the running
//! model's own values.

mod page;
mod stream;

use candle_core::{DType, Device, IndexOp, Tensor};
use serde::{Serialize, Serializer};
use vulpes_model::{Recorder, Site};
use vulpes_ops as ops;

pub use page::print;

use crate::error::Error;
use crate::explanation::{Explanation, Subject, seen};
use stream::Stream;

/// The source of a part of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The token's own embedding.
    Token,
    /// The embedding of its position.
    Position,
    /// The embedding of the text of a pair that it belongs to.
    TokenType,
    /// The embedding of its pair with the token before it.
    Pair,
    /// The output of an earlier head.
    Head {
        /// Its layer.
        layer: usize,
        /// Its number in the layer.
        head: usize,
    },
    /// The outputs of all heads of an earlier layer, if a page has no room for each.
    Heads {
        /// The layer.
        layer: usize,
    },
    /// The output of an earlier feed-forward layer.
    FeedForward {
        /// Its layer.
        layer: usize,
    },
    /// Everything independent of the text except for the norms' scales: the biases of projections and norms so far.
    Biases,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token => write!(f, "token"),
            Self::Position => write!(f, "position"),
            Self::TokenType => write!(f, "type"),
            Self::Pair => write!(f, "pair"),
            Self::Head { layer, head } => write!(f, "head {layer}.{head}"),
            Self::Heads { layer } => write!(f, "heads of layer {layer}"),
            Self::FeedForward { layer } => write!(f, "feed-forward {layer}"),
            Self::Biases => write!(f, "biases"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The queries and keys of one head, each as the sum of its parts.
#[derive(Clone, Debug)]
pub struct Origins {
    /// The layer.
    pub layer: usize,
    /// The head.
    pub head: usize,
    /// The sources of the parts, in the order in which the model adds them; the biases last.
    pub sources: Vec<Source>,
    /// The positions that were split, in the order of the rows below.
    pub places: Vec<usize>,
    /// Each part of the queries, after rotation, times the factor on q·k: `[sources][positions][k]`.
    pub queries: Vec<Vec<Vec<f64>>>,
    /// Each part of the keys, after rotation: `[sources][positions][k]`.
    pub keys: Vec<Vec<Vec<f64>>>,
    /// The learned bias of each distance, if the model has one: `[positions][positions]`.
    pub bias: Option<Vec<Vec<f64>>>,
}

/// One score, split over the sources of its query and its key.
#[derive(Clone, Debug, Serialize)]
pub struct ScoreParts {
    /// The layer.
    pub layer: usize,
    /// The head.
    pub head: usize,
    /// The query position.
    pub query: usize,
    /// The key position.
    pub key: usize,
    /// The sources of the parts.
    pub sources: Vec<Source>,
    /// The contribution of the query's part (row) with the key's part (column) to the score, `[sources][sources]`.
    pub parts: Vec<Vec<f64>>,
    /// The learned bias of the distance, if the model has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<f64>,
    /// All of them added up.
    pub sum: f64,
    /// The model's own score, before the mask: it differs only by float32 rounding.
    pub score: f64,
}

impl Origins {
    /// The parts of one score; `None` where one of the positions was not split.
    pub fn cell(&self, explanation: &Explanation, query: usize, key: usize) -> Option<ScoreParts> {
        let row = |place| self.places.iter().position(|known| *known == place);
        let (q, k) = (row(query)?, row(key)?);
        let parts: Vec<Vec<f64>> =
            self.queries.iter().map(|of| self.keys.iter().map(|by| dot(&of[q], &by[k])).collect()).collect();
        let bias = self.bias.as_ref().map(|bias| bias[q][k]);
        let sum = parts.iter().flatten().sum::<f64>() + bias.unwrap_or(0.0);
        Some(ScoreParts {
            layer: self.layer,
            head: self.head,
            query,
            key,
            sources: self.sources.clone(),
            parts,
            bias,
            sum,
            score: f64::from(explanation.scores[self.layer][self.head][query][key]),
        })
    }

    /// The same with the heads of each earlier layer as one source.
    pub(crate) fn by_layer(&self) -> Self {
        let mut merged = Self {
            sources: Vec::new(),
            queries: Vec::new(),
            keys: Vec::new(),
            places: self.places.clone(),
            bias: self.bias.clone(),
            ..*self
        };
        for (at, source) in self.sources.iter().enumerate() {
            let source = match *source {
                Source::Head { layer, .. } => Source::Heads { layer },
                other => other,
            };
            match merged.sources.iter().position(|known| *known == source) {
                Some(known) => {
                    add(&mut merged.queries[known], &self.queries[at]);
                    add(&mut merged.keys[known], &self.keys[at]);
                }
                None => {
                    merged.sources.push(source);
                    merged.queries.push(self.queries[at].clone());
                    merged.keys.push(self.keys[at].clone());
                }
            }
        }
        merged
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [Vec<f64>], from: &[Vec<f64>]) {
    to.iter_mut().flatten().zip(from.iter().flatten()).for_each(|(to, from)| *to += from);
}

/// The sources of the queries and keys of some heads, at `places` of the text (at all positions if empty), in the
/// order of the layers.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn origins(
    subject: &Subject,
    explanation: &Explanation,
    heads: &[(usize, usize)],
    places: &[usize],
) -> Result<Vec<Origins>, Error> {
    let model = subject.model;
    let places = match places {
        [] => (0..explanation.ids.len()).collect(),
        some => some.to_vec(),
    };
    let Some(last) = heads.iter().map(|(layer, _)| *layer).max() else { return Ok(Vec::new()) };
    let of_layer = |layer| {
        [Site::Cosines(layer), Site::Sines(layer), Site::Context(layer), Site::FeedForwardOutput(layer)]
    };
    let ends = [Site::TokenVector, Site::PositionVector, Site::TypeVector, Site::PairVector];
    let sites: Vec<Site> = ends.into_iter().chain((0..=last).flat_map(of_layer)).collect();
    let mut recorder = Recorder::of(&sites);
    subject.run(&explanation.input(model)?, &mut recorder)?;
    let picked = Picked { recorder: &recorder, places: &places };
    let mut stream = Stream::start(&model.layers().embedding, &picked)?;
    let mut found = Vec::new();
    for block in &model.layers().blocks[..=last] {
        let read = stream.through(block.attention.residual.before.as_ref())?;
        for &(layer, head) in heads.iter().filter(|(layer, _)| *layer == block.layer) {
            let attention = &block.attention;
            let group = head / (attention.n_head / attention.n_kv_head.max(1)).max(1);
            let (k, scale) = (attention.d_head, attention.scale);
            let turned = |parts: Stream, factor: f64| -> Result<Vec<Vec<Vec<f64>>>, Error> {
                let turned = |part: &Tensor| Ok((picked.rotated(layer, part)? * factor)?.to_vec2()?);
                parts.tensors().map(turned).collect()
            };
            let queries = read.projected(&attention.query, attention.query_norm.as_ref(), (head, k))?;
            let keys = read.projected(&attention.key, attention.key_norm.as_ref(), (group, k))?;
            let bias = model.relative_bias(explanation.ids.len())?;
            found.push(Origins {
                layer,
                head,
                sources: queries.sources().collect(),
                queries: turned(queries, scale)?,
                keys: turned(keys, 1.0)?,
                bias: bias.map(|bias| picked.cells(&bias.i(head)?)).transpose()?,
                places: places.clone(),
            });
        }
        if block.layer < last {
            stream = stream.after(block, &picked)?;
        }
    }
    Ok(found)
}

/// The values recorded at the chosen positions, in float64.
struct Picked<'a> {
    recorder: &'a Recorder,
    places: &'a [usize],
}

impl Picked<'_> {
    /// The rows of the chosen positions, `[positions, ..]`; `None` if the model has no such site.
    fn get(&self, site: Site) -> Result<Option<Tensor>, Error> {
        match self.recorder.get(site) {
            None => Ok(None),
            Some(value) => Ok(Some(self.rows(value)?)),
        }
    }

    /// [`Picked::get`] of a site that must exist.
    fn seen(&self, site: Site) -> Result<Tensor, Error> {
        self.rows(seen(self.recorder, site)?)
    }

    /// The rows of the chosen positions of `[1, t, ..]` or `[t, k]`.
    fn rows(&self, value: &Tensor) -> Result<Tensor, Error> {
        let value = if value.dim(0)? == 1 && value.rank() > 2 { value.squeeze(0)? } else { value.clone() };
        self.pick(&exact(&value)?, 0)
    }

    /// The cells of the chosen positions of `[t, t]`.
    fn cells(&self, value: &Tensor) -> Result<Vec<Vec<f64>>, Error> {
        Ok(self.pick(&self.pick(&exact(value)?, 0)?, 1)?.to_vec2()?)
    }

    fn pick(&self, value: &Tensor, dim: usize) -> Result<Tensor, Error> {
        let places: Vec<u32> = self.places.iter().map(|&place| place as u32).collect();
        Ok(value.contiguous()?.index_select(&Tensor::new(places, &Device::Cpu)?, dim)?)
    }

    /// One part of queries or keys, `[positions, k]`, rotated by the angles of its positions if the layer rotates
    /// them.
    fn rotated(&self, layer: usize, part: &Tensor) -> Result<Tensor, Error> {
        let (Some(cos), Some(sin)) = (self.get(Site::Cosines(layer))?, self.get(Site::Sines(layer))?) else {
            return Ok(part.clone());
        };
        let part = part.contiguous()?.unsqueeze(0)?.unsqueeze(2)?;
        Ok(ops::rotary(&part, &cos, &sin, None)?.squeeze(2)?.squeeze(0)?)
    }
}

/// A tensor of the model in float64, on the CPU.
fn exact(tensor: &Tensor) -> Result<Tensor, Error> {
    Ok(tensor.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
}
