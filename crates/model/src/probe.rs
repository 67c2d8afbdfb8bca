//! Named sites inside the running model, and probes that see the values there.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::Tensor;

/// A site inside a transformer whose value can be inspected; it is displayed as `blocks.3.attention.weights`.
///
/// Legend: `b` rows, `t` query positions, `s` key positions, `d` model width, `h` query heads, `g` key/value heads,
/// `k` head width, `v` vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings: `[b, t, d]`.
    TokenVector,
    /// Learned position embeddings, if any: `[b, t, d]`.
    PositionVector,
    /// Token type embeddings, if any: `[b, t, d]`.
    TypeVector,
    /// Bigram embeddings, if any: `[b, t, d]`.
    PairVector,
    /// The sum of the embeddings, before their norm: `[b, t, d]`.
    EmbeddingSum,
    /// The sum of the embeddings (after their norm, if there is one): `[b, t, d]`.
    Embedding,
    /// The input of the query, key and value projections: the residual stream, after a pre-norm if there is one:
    /// `[b, t, d]`.
    AttentionInput(usize),
    /// The cosines of the tokens' rotary angles, one for each rotated pair: `[b, t, k/2]`.
    Cosines(usize),
    /// Their sines: `[b, t, k/2]`.
    Sines(usize),
    /// Queries before their norm, if they have one: `[b, t, h, k]`.
    UnnormedQuery(usize),
    /// Keys before their norm, if they have one: `[b, t, g, k]`.
    UnnormedKey(usize),
    /// Queries before rotation, if they are rotated: `[b, t, h, k]`.
    UnrotatedQuery(usize),
    /// Keys before rotation, if they are rotated: `[b, t, g, k]`.
    UnrotatedKey(usize),
    /// Queries, after rotation: `[b, t, h, k]`.
    Query(usize),
    /// Keys, after rotation: `[b, s, g, k]`.
    Key(usize),
    /// Values: `[b, s, g, k]`.
    Value(usize),
    /// q·k · scale, with the relative position bias if there is one, before the mask: `[b, h, t, s]`.
    Scores(usize),
    /// Attention weights after mask and softmax: `[b, h, t, s]`.
    AttentionWeights(usize),
    /// Context vectors, the weighted sums of values: `[b, t, h, k]`.
    Context(usize),
    /// The output of the attention sublayer: `[b, t, d]`.
    AttentionOutput(usize),
    /// What attention adds to the stream, if a norm or factor changes its output: `[b, t, d]`.
    AttentionBranch(usize),
    /// The stream after that addition, before the norm of the sum (in a bare block only the context vectors):
    /// `[b, t, d]`.
    AttentionSum(usize),
    /// The stream between the two sublayers: `[b, t, d]`.
    Middle(usize),
    /// The feed-forward's input: the residual stream, after a pre-norm if there is one: `[b, t, d]`.
    FeedForwardInput(usize),
    /// Its gate before the activation, if it has one: `[b, t, f]`.
    FeedForwardGate(usize),
    /// Its wider layer, before the activation if there is no gate: `[b, t, f]`.
    FeedForwardUp(usize),
    /// Its wider layer after activation and gate: `[b, t, f]`.
    FeedForwardInner(usize),
    /// The output of the feed-forward sublayer: `[b, t, d]`.
    FeedForwardOutput(usize),
    /// What the feed-forward adds to the stream, if that differs from its output: `[b, t, d]`.
    FeedForwardBranch(usize),
    /// The stream after that addition, before the norm of the sum: `[b, t, d]`.
    FeedForwardSum(usize),
    /// The stream after the block: `[b, t, d]`.
    Block(usize),
    /// The hidden states that the head reads: `[b, t, d]`.
    Hidden,
    /// The vector of each row that a classifier reads: `[b, d]`.
    HeadRow,
    /// The head's dense layer, before its activation: `[b, t, d]`; a classifier's `[b, d]`.
    HeadDense,
    /// The same after its activation, before its norm: `[b, t, d]`.
    HeadActivated,
    /// The input of the head's last projection: `[b, t, d]`; a classifier's `[b, d]`.
    HeadInput,
    /// The logits: `[b, t, v]`.
    Logits,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::TokenVector => write!(f, "embedding.token"),
            Site::PositionVector => write!(f, "embedding.position"),
            Site::TypeVector => write!(f, "embedding.token_type"),
            Site::PairVector => write!(f, "embedding.bigram"),
            Site::EmbeddingSum => write!(f, "embedding.sum"),
            Site::Embedding => write!(f, "embedding"),
            Site::AttentionInput(n) => write!(f, "blocks.{n}.attention.input"),
            Site::Cosines(n) => write!(f, "blocks.{n}.attention.cosines"),
            Site::Sines(n) => write!(f, "blocks.{n}.attention.sines"),
            Site::UnnormedQuery(n) => write!(f, "blocks.{n}.attention.query.unnormed"),
            Site::UnnormedKey(n) => write!(f, "blocks.{n}.attention.key.unnormed"),
            Site::UnrotatedQuery(n) => write!(f, "blocks.{n}.attention.query.unrotated"),
            Site::UnrotatedKey(n) => write!(f, "blocks.{n}.attention.key.unrotated"),
            Site::Query(n) => write!(f, "blocks.{n}.attention.query"),
            Site::Key(n) => write!(f, "blocks.{n}.attention.key"),
            Site::Value(n) => write!(f, "blocks.{n}.attention.value"),
            Site::Scores(n) => write!(f, "blocks.{n}.attention.scores"),
            Site::AttentionWeights(n) => write!(f, "blocks.{n}.attention.weights"),
            Site::Context(n) => write!(f, "blocks.{n}.attention.context"),
            Site::AttentionOutput(n) => write!(f, "blocks.{n}.attention.output"),
            Site::AttentionBranch(n) => write!(f, "blocks.{n}.attention.branch"),
            Site::AttentionSum(n) => write!(f, "blocks.{n}.attention.sum"),
            Site::Middle(n) => write!(f, "blocks.{n}.middle"),
            Site::FeedForwardInput(n) => write!(f, "blocks.{n}.feed_forward.input"),
            Site::FeedForwardGate(n) => write!(f, "blocks.{n}.feed_forward.gate"),
            Site::FeedForwardUp(n) => write!(f, "blocks.{n}.feed_forward.up"),
            Site::FeedForwardInner(n) => write!(f, "blocks.{n}.feed_forward.inner"),
            Site::FeedForwardOutput(n) => write!(f, "blocks.{n}.feed_forward.output"),
            Site::FeedForwardBranch(n) => write!(f, "blocks.{n}.feed_forward.branch"),
            Site::FeedForwardSum(n) => write!(f, "blocks.{n}.feed_forward.sum"),
            Site::Block(n) => write!(f, "blocks.{n}"),
            Site::Hidden => write!(f, "hidden"),
            Site::HeadRow => write!(f, "head.row"),
            Site::HeadDense => write!(f, "head.dense"),
            Site::HeadActivated => write!(f, "head.activated"),
            Site::HeadInput => write!(f, "head.input"),
            Site::Logits => write!(f, "logits"),
        }
    }
}

/// An observer of a running model.
///
/// A value that no probe wants is not computed unless the model needs it (training never materializes the attention
/// weights).
pub trait Probe {
    /// Whether the value at `site` is wanted.
    fn wants(&self, site: Site) -> bool;
    /// Receives the value at `site`, a tensor of the running model itself.
    fn record(&mut self, site: Site, value: &Tensor);
}

/// A probe that keeps the values of the sites that it watches.
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

    /// The value seen at `site`; `None` if the model has no such site or hasn't been run.
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
