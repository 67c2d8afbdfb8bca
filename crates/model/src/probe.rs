//! Named places inside the running model, and what looks at them.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::Tensor;

/// A place inside a transformer whose value can be looked at; it prints as `blocks.3.attention.weights`.
///
/// Legend: `b` rows, `t` query positions, `s` key positions, `d` model width, `h` query heads, `g` key/value heads,
/// `k` head width, `v` vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The sum of the embeddings (after their norm, where there is one): `[b, t, d]`.
    Embedding,
    /// Queries, after rotation: `[b, t, h, k]`.
    Query(usize),
    /// Keys, after rotation: `[b, s, g, k]`.
    Key(usize),
    /// Values: `[b, s, g, k]`.
    Value(usize),
    /// q·k · scale before the mask: `[b, h, t, s]`.
    Scores(usize),
    /// Attention weights after mask and softmax: `[b, h, t, s]`.
    Weights(usize),
    /// Context vectors, the weighted sums of values: `[b, t, h, k]`.
    Context(usize),
    /// What the attention sublayer adds to the stream: `[b, t, d]`.
    AttentionOutput(usize),
    /// The stream after the block: `[b, t, d]`.
    Block(usize),
    /// The hidden states that the head reads: `[b, t, d]`.
    Hidden,
    /// The logits: `[b, t, v]`.
    Logits,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Embedding => write!(f, "embedding"),
            Site::Query(n) => write!(f, "blocks.{n}.attention.query"),
            Site::Key(n) => write!(f, "blocks.{n}.attention.key"),
            Site::Value(n) => write!(f, "blocks.{n}.attention.value"),
            Site::Scores(n) => write!(f, "blocks.{n}.attention.scores"),
            Site::Weights(n) => write!(f, "blocks.{n}.attention.weights"),
            Site::Context(n) => write!(f, "blocks.{n}.attention.context"),
            Site::AttentionOutput(n) => write!(f, "blocks.{n}.attention.output"),
            Site::Block(n) => write!(f, "blocks.{n}"),
            Site::Hidden => write!(f, "hidden"),
            Site::Logits => write!(f, "logits"),
        }
    }
}

/// Looks at a running model.
///
/// A value that no probe wants is not computed where the model can do without it (attention weights are never held
/// whole in training).
pub trait Probe {
    /// Whether the value at `site` is wanted.
    fn wants(&self, site: Site) -> bool;
    /// Takes the value at `site`, a tensor of the running model itself.
    fn record(&mut self, site: Site, value: &Tensor);
}

/// A probe that keeps every value of the places that it is asked to watch.
#[derive(Default)]
pub struct Recorder {
    sites: Option<Vec<Site>>,
    values: BTreeMap<Site, Tensor>,
}

impl Recorder {
    /// Keeps everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Keeps the values at `sites`.
    pub fn of(sites: &[Site]) -> Self {
        Self { sites: Some(sites.to_vec()), values: BTreeMap::new() }
    }

    /// The value seen at `site`, `None` where the model has no such place or wasn't run.
    pub fn get(&self, site: Site) -> Option<&Tensor> {
        self.values.get(&site)
    }
}

impl Probe for Recorder {
    fn wants(&self, site: Site) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(&site))
    }

    fn record(&mut self, site: Site, value: &Tensor) {
        self.values.insert(site, value.clone());
    }
}
