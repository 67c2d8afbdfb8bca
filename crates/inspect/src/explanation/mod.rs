//! The explanation of one text by one model: everything that attention computed for it.
//!
//! ids → the running model under a recording probe → scores, mask, weights, context vectors of every head → logits →
//! the next-token table. All values are the model's own, copied unchanged.

mod page;
mod said;

use std::collections::BTreeSet;

use candle_core::{DType, Tensor};
use serde::Serialize;
use vulpes_data::Tokenizer;
use vulpes_generate::{NextToken, token_text};
use vulpes_model::config::Pooling;
use vulpes_model::{Embedder, Head, Input, ModelConfig, Pass, Recorder, Site, Transformer};

pub use page::print;
pub use said::{Said, said};

use crate::error::Error;
use crate::way::formulas;

/// `[layer][head][query][key]`, or `[layer][head][token][width]`.
type PerHead = Vec<Vec<Vec<Vec<f32>>>>;

/// Everything that attention computed for one text.
///
/// Legend: L layers, H query heads, G key/value heads, T tokens, k width of a head, V vocabulary.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The model's config.
    pub model: ModelConfig,
    /// The tokens' texts, `[T]`.
    pub tokens: Vec<String>,
    /// The tokens' ids, `[T]`.
    pub ids: Vec<u32>,
    /// Which text of a pair each token belongs to, `[T]`; empty if all have type 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_types: Vec<u32>,
    /// The position of the table: the last token; for a masked language model the first mask; for a classifier the
    /// first token.
    pub position: usize,
    /// The tokens as they continue a text, `[T]`: with a space before a word if the vocabulary spells its boundary.
    pub pieces: Vec<String>,
    /// The ids that begin a word by the vocabulary's spelling, though their text does not show it.
    #[serde(skip)]
    pub word_starts: BTreeSet<u32>,
    /// How each layer computes its values, `[L]`: `Q = Wq @ norm(x) + bq` and so on, in the order of computation.
    pub formulas: Vec<Vec<String>>,
    /// The factor on q·k.
    pub scale: f64,
    /// 1 if a query of the first layer (row) may attend to the key (column), `[T][T]`.
    pub mask: Vec<Vec<u8>>,
    /// The same for each kind of layer, `[kinds][T][T]`.
    pub masks: Vec<Vec<Vec<u8>>>,
    /// The kind of each layer, `[L]`.
    pub kinds: Vec<usize>,
    /// The input vectors of each layer (for the first, the embeddings), `[L][T][d]`.
    pub inputs: Vec<Vec<Vec<f32>>>,
    /// `scale · q·k`, before the mask, `[L][H][T][T]`.
    pub scores: PerHead,
    /// Attention weights, each row summing to 1, `[L][H][T][T]`.
    pub attentions: PerHead,
    /// Queries, `[L][H][T][k]`.
    pub queries: PerHead,
    /// Keys, `[L][G][T][k]`.
    pub keys: PerHead,
    /// Values, `[L][G][T][k]`.
    pub values: PerHead,
    /// Context vectors, the weighted sums of values, `[L][H][T][k]`.
    pub contexts: PerHead,
    /// The embedding of the text, `[d]`: for a sentence-transformers folder the result of its modules, else the mean
    /// of its tokens' last hidden states.
    pub embedding: Vec<f32>,
    /// A description of how that vector is made.
    pub embedding_is: String,
    /// Logits at every token, `[T][V]`; for a classifier once, `[1][n_labels]`; for a model without a head the last
    /// hidden states, `[T][d]`.
    pub logits: Vec<Vec<f32>>,
    /// The most likely tokens (or labels) at `position`, largest first; empty for a model without a head.
    pub next: Vec<NextToken>,
}

/// A model with its tokenizer, labels and pooling.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// A classifier's labels.
    pub labels: &'a [String],
    /// How the vectors of a text are pooled into one.
    pub embedder: Embedder,
}

impl Subject<'_> {
    /// The text of an output: a token's, or a label's.
    pub(crate) fn output(&self, id: u32) -> String {
        match self.model.config().head {
            Head::Classify { .. } => {
                self.labels.get(id as usize).cloned().unwrap_or_else(|| format!("LABEL_{id}"))
            }
            _ => token_text(self.tokenizer, id),
        }
    }

    /// The output that a text names: a single token, or a label.
    pub fn output_id(&self, text: &str) -> Option<u32> {
        if let Head::Classify { n_labels } = self.model.config().head {
            return (0..n_labels as u32).find(|&id| self.output(id) == text);
        }
        let alone = |text: &str| match self.tokenizer.encode(text).ok()?.as_slice() {
            [id] if Some(*id) != self.tokenizer.unk_id() => Some(*id),
            _ => None,
        };
        // In byte-level vocabularies a word after a space is another token than one at the beginning.
        alone(&format!(" {text}")).or_else(|| alone(text)).or_else(|| self.tokenizer.token_to_id(text))
    }

    /// The position whose prediction is explained.
    pub(crate) fn position(&self, ids: &[u32]) -> usize {
        let last = ids.len().saturating_sub(1);
        match self.model.config().head {
            Head::MaskedToken => {
                let mask = self.tokenizer.mask_id();
                ids.iter().position(|id| Some(*id) == mask).unwrap_or(last)
            }
            Head::Classify { .. } => self.read_by_classifier(ids).unwrap_or(0),
            Head::NextToken | Head::Hidden { .. } => last,
        }
    }

    /// The token whose vector a classifier reads; `None` if it reads the mean of all.
    pub(crate) fn read_by_classifier(&self, ids: &[u32]) -> Option<usize> {
        let config = self.model.config();
        match config.pooling {
            Pooling::First => Some(0),
            Pooling::Mean => None,
            Pooling::Last => ids.iter().rposition(|id| Some(*id) != config.pad_id),
        }
    }

    /// Runs the model on `input` under the probe and returns the logits, `[T][V]` or `[1][n_labels]`.
    pub(crate) fn run(&self, input: &Input, recorder: &mut Recorder) -> Result<Vec<Vec<f32>>, Error> {
        let hidden = self.model.forward(input, &mut Pass::probed(recorder))?;
        let hidden = self.model.read_by_head(&hidden, input)?;
        let logits = self.model.logits(&hidden, &mut Pass::probed(recorder))?;
        let logits = if logits.rank() == 3 { logits.squeeze(0)? } else { logits };
        Ok(logits.to_dtype(DType::F32)?.to_vec2()?)
    }
}

/// A description of how a text's vector is made.
fn embedding_is(embedder: Embedder) -> String {
    let Embedder { pooling, normalize } = embedder;
    format!("{}{}", pooling.about(), if normalize { ", at length 1" } else { "" })
}

/// Ids of one row as the model's input, each with its type if types are given.
fn input(ids: &[u32], token_types: &[u32], model: &Transformer) -> candle_core::Result<Input> {
    let input = Input::new(ids, 1, model.device())?;
    if token_types.is_empty() { Ok(input) } else { input.with_token_types(token_types) }
}

impl Explanation {
    /// The row as the input of `model`.
    ///
    /// # Errors
    /// Returns an error if the device is out of memory.
    pub fn input(&self, model: &Transformer) -> candle_core::Result<Input> {
        input(&self.ids, &self.token_types, model)
    }

    /// One output at the target position; `None` if the model has no such output.
    pub fn output(&self, id: u32, subject: &Subject) -> Option<NextToken> {
        let logits = self.logits.get(self.position.min(self.logits.len().saturating_sub(1)))?;
        let logit = *logits.get(id as usize)?;
        Some(NextToken { id, text: subject.output(id), probability: softmax(logits)[id as usize], logit })
    }
}

/// Runs `ids` through the model and records everything; `token_types` says which text of a pair each belongs to, and
/// is empty without a pair.
///
/// # Errors
/// Returns an error if there are no ids, one is outside the vocabulary, there are more than the model reads, or a
/// type is unknown to it.
pub fn explain(subject: &Subject, ids: &[u32], token_types: &[u32]) -> Result<Explanation, Error> {
    let config = subject.model.config().clone();
    if !token_types.is_empty() && token_types.len() != ids.len() {
        let (types, ids) = (token_types.len(), ids.len());
        return Err(Error::Text(format!("there are {types} token types for {ids} ids; each id needs one")));
    }
    if let Some(known) = token_types.iter().find(|&&known| known as usize >= config.n_token_type) {
        return Err(Error::Text(match config.n_token_type {
            0 => "the model has no token types".to_owned(),
            n => format!("token type {known} is out of range: the model has types 0 to {}", n - 1),
        }));
    }
    if ids.is_empty() {
        return Err(Error::Text("the text is empty; enter at least one word".into()));
    }
    if let Some(id) = ids.iter().find(|&&id| id as usize >= config.vocab_size) {
        return Err(Error::Text(format!(
            "id {id} is outside the vocabulary of {} tokens",
            config.vocab_size
        )));
    }
    if ids.len() > config.context_len {
        let (n, context) = (ids.len(), config.context_len);
        return Err(Error::Text(format!(
            "the text has {n} tokens, but the model reads at most {context}; shorten it"
        )));
    }
    let input = input(ids, token_types, subject.model)?;
    let mut recorder = Recorder::of(&sites(config.n_layer));
    let logits = subject.run(&input, &mut recorder)?;
    let position = subject.position(ids);
    let n = ids.len();
    let word_starts = word_starts(subject);
    let kinds: Vec<usize> = subject.model.layers().blocks.iter().map(|block| block.kind).collect();
    let mask_of = |kind: usize| -> Result<Vec<Vec<u8>>, Error> {
        let layer = kinds.iter().position(|of| *of == kind).unwrap_or(0);
        let mask = subject.model.mask(&input, layer, 0)?;
        Ok((0..n).map(|q| (0..n).map(|k| u8::from(mask.allows(0, q, k))).collect()).collect())
    };
    let masks = (0..subject.model.layers().kinds.len()).map(mask_of).collect::<Result<Vec<_>, _>>()?;
    let layers = |site: fn(usize) -> Site, by_token: bool| -> Result<PerHead, Error> {
        (0..config.n_layer).map(|layer| per_head(seen(&recorder, site(layer))?, by_token)).collect()
    };
    let input_of = |layer: usize| {
        let site = layer.checked_sub(1).map_or(Site::Embedding, Site::Block);
        Ok(seen(&recorder, site)?.squeeze(0)?.to_dtype(DType::F32)?.to_vec2()?)
    };
    Ok(Explanation {
        tokens: ids.iter().map(|&id| token_text(subject.tokenizer, id)).collect(),
        pieces: ids.iter().map(|&id| piece(&word_starts, id, &token_text(subject.tokenizer, id))).collect(),
        word_starts,
        ids: ids.to_vec(),
        token_types: token_types.to_vec(),
        position,
        formulas: formulas(subject.model)?,
        scale: config.scale(),
        mask: masks.first().cloned().unwrap_or_default(),
        masks,
        inputs: (0..config.n_layer).map(input_of).collect::<Result<_, Error>>()?,
        scores: layers(Site::Scores, false)?,
        attentions: layers(Site::AttentionWeights, false)?,
        queries: layers(Site::Query, true)?,
        keys: layers(Site::Key, true)?,
        values: layers(Site::Value, true)?,
        contexts: layers(Site::Context, true)?,
        embedding_is: embedding_is(subject.embedder),
        embedding: subject
            .embedder
            .embed(seen(&recorder, Site::Hidden)?, &input)?
            .squeeze(0)?
            .to_dtype(DType::F32)?
            .to_vec1()?,
        next: match config.head {
            Head::Hidden { .. } => Vec::new(),
            _ => next_tokens(&logits[position.min(logits.len() - 1)], 50, &|id| subject.output(id)),
        },
        logits,
        kinds,
        model: config,
    })
}

impl Explanation {
    /// An output's text as it continues the text.
    pub fn piece(&self, output: &NextToken) -> String {
        piece(&self.word_starts, output.id, &output.text)
    }

    /// The layer and head in which the target token's attention is least uniform; the first of ties.
    pub fn most_telling(&self) -> (usize, usize) {
        let mut most = ((0, 0), f64::NEG_INFINITY);
        for (layer, heads) in self.attentions.iter().enumerate() {
            for (head, weights) in heads.iter().enumerate() {
                let telling = unevenness(&weights[self.position], &self.mask(layer)[self.position]);
                if telling > most.1 {
                    most = ((layer, head), telling);
                }
            }
        }
        most.0
    }

    /// 1 if a query of that layer (row) may attend to the key (column), `[T][T]`.
    pub fn mask(&self, layer: usize) -> &[Vec<u8>] {
        &self.masks[self.kinds[layer]]
    }
}

/// The ids of outputs that the vocabulary spells with a mark of the word's beginning (SentencePiece's `▁`).
fn word_starts(subject: &Subject) -> BTreeSet<u32> {
    if matches!(subject.model.config().head, Head::Classify { .. }) {
        return BTreeSet::new();
    }
    let begins = |id: &u32| {
        subject.tokenizer.id_to_token(*id).is_some_and(|token| token.starts_with('▁') && token != "▁")
    };
    (0..subject.model.config().vocab_size as u32).filter(begins).collect()
}

/// A token's text, with a space before it if its spelling has one.
fn piece(word_starts: &BTreeSet<u32>, id: u32, text: &str) -> String {
    let hidden = word_starts.contains(&id) && !text.starts_with(' ');
    if hidden { format!(" {text}") } else { text.to_owned() }
}

/// How uneven a row's weights over its visible keys are: 0 is uniform, 1 is all on one.
fn unevenness(row: &[f32], mask: &[u8]) -> f64 {
    let n = mask.iter().filter(|cell| **cell == 1).count();
    let weights = row.iter().map(|&w| f64::from(w)).filter(|w| *w > 0.0);
    let entropy: f64 = weights.map(|w| -w * w.ln()).sum();
    if n < 2 { 0.0 } else { 1.0 - entropy / (n as f64).ln() }
}

/// The sites that an explanation records.
fn sites(n_layer: usize) -> Vec<Site> {
    let of_layer = |layer: usize| {
        [
            Site::Query(layer),
            Site::Key(layer),
            Site::Value(layer),
            Site::Scores(layer),
            Site::AttentionWeights(layer),
            Site::Context(layer),
            Site::Block(layer),
        ]
    };
    [Site::Embedding, Site::Hidden].into_iter().chain((0..n_layer).flat_map(of_layer)).collect()
}

/// The value that the probe recorded at a site.
pub(crate) fn seen(recorder: &Recorder, site: Site) -> Result<&Tensor, Error> {
    recorder.get(site).ok_or_else(|| Error::NotSeen(site.to_string()))
}

/// The single row of a tensor as `[head][..][..]`; `by_token` if it is stored as `[token][head][width]`.
fn per_head(tensor: &Tensor, by_token: bool) -> Result<Vec<Vec<Vec<f32>>>, Error> {
    let row = tensor.squeeze(0)?.to_dtype(DType::F32)?;
    Ok(if by_token { row.transpose(0, 1)? } else { row }.to_vec3()?)
}

/// Probabilities of logits: `exp(logit - largest) / Σ`, in float64.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f64> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> =
        logits.iter().map(|logit| (f64::from(*logit) - f64::from(greatest)).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The `n` most likely outputs, largest first, ties by id.
pub(crate) fn next_tokens(logits: &[f32], n: usize, text: &dyn Fn(u32) -> String) -> Vec<NextToken> {
    let probabilities = softmax(logits);
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    let line = |&id: &u32| NextToken {
        id,
        text: text(id),
        probability: probabilities[id as usize],
        logit: logits[id as usize],
    };
    ids.iter().take(n).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_show_the_space_of_their_spelling() {
        let starts = BTreeSet::from([7]);
        assert_eq!(
            [piece(&starts, 7, "old"), piece(&starts, 8, "ld"), piece(&starts, 7, " old")],
            [" old", "ld", " old"]
        );
    }

    #[test]
    fn unevenness_is_0_for_uniform_rows_and_1_for_a_single_word() {
        assert!(unevenness(&[0.5, 0.5, 0.0], &[1, 1, 0]).abs() < 1e-9);
        assert!((unevenness(&[0.0, 1.0, 0.0], &[1, 1, 0]) - 1.0).abs() < 1e-9);
        assert!(unevenness(&[0.9, 0.1, 0.0], &[1, 1, 0]) > unevenness(&[0.6, 0.4, 0.0], &[1, 1, 0]));
        // A token that sees only itself has no choice.
        assert_eq!(unevenness(&[1.0, 0.0, 0.0], &[1, 0, 0]), 0.0);
    }
}
