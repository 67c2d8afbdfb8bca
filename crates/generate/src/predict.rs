//! What a classifier says of many texts: its labels and their probabilities.

use vulpes_data::Tokenizer;
use vulpes_model::{Head, Input, Run, Transformer};

use crate::engine::to_rows;
use crate::error::Error;
use crate::next::{NextToken, next_tokens};

/// Rows of one forward pass.
const ROWS: usize = 32;

/// A text, or a pair of texts, as a classifier reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    /// The ids, in the tokenizer's frame.
    pub ids: Vec<u32>,
    /// Which text of a pair each id belongs to.
    pub token_types: Vec<u32>,
    /// Whether the text was cut to what the model can read.
    pub is_cut: bool,
}

impl Framed {
    /// `text`, and the second one of a pair, cut as training cuts them to what `model` can read.
    ///
    /// # Errors
    /// Where the tokenizer can't say any of it.
    pub fn new(
        text: &str,
        pair: Option<&str>,
        tokenizer: &Tokenizer,
        model: &Transformer,
    ) -> Result<Self, Error> {
        let context = model.config().context_len;
        let (ids, token_types) = tokenizer.encode_framed(text, pair, None)?;
        if ids.len() <= context {
            return Ok(Self { ids, token_types, is_cut: false });
        }
        let (ids, token_types) = tokenizer.encode_framed(text, pair, Some(context))?;
        Ok(Self { ids, token_types, is_cut: true })
    }
}

/// The labels of each text, likeliest first, with their probabilities; `name` gives a label its name.
///
/// Texts of like length go through the model together, padded; the numbers are those of one text at a time up to
/// rounding.
///
/// # Errors
/// Where the model is no classifier, a text has no ids, or an operation fails.
pub fn classify(
    model: &Transformer,
    texts: &[Framed],
    name: &dyn Fn(u32) -> String,
) -> Result<Vec<Vec<NextToken>>, Error> {
    let Head::Classify { n_labels } = model.config().head else {
        return Err(Error::Prompt("this model tells no labels apart".into()));
    };
    if texts.iter().any(|text| text.ids.is_empty()) {
        return Err(Error::Prompt("a text is empty: give it a word".into()));
    }
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&at| texts[at].ids.len());
    let mut tables = vec![Vec::new(); texts.len()];
    for rows in order.chunks(ROWS) {
        let logits = logits_of(model, texts, rows)?;
        for (&row, logits) in rows.iter().zip(&logits) {
            tables[row] = next_tokens(logits, n_labels, name)?;
        }
    }
    Ok(tables)
}

/// The labels' logits of the texts that `rows` names.
fn logits_of(model: &Transformer, texts: &[Framed], rows: &[usize]) -> Result<Vec<Vec<f32>>, Error> {
    let longest = rows.iter().map(|&row| texts[row].ids.len()).max().unwrap_or(0);
    let padded = |values: &dyn Fn(&Framed, usize) -> u32| -> Vec<u32> {
        let of_row = |&row: &usize| (0..longest).map(move |at| (row, at));
        rows.iter().flat_map(of_row).map(|(row, at)| values(&texts[row], at)).collect()
    };
    let filler = model.config().pad_id.unwrap_or(0);
    let ids = padded(&|text, at| text.ids.get(at).copied().unwrap_or(filler));
    let mut input = Input::new(&ids, rows.len(), model.device())?;
    if rows.iter().any(|&row| texts[row].ids.len() < longest) {
        let keep = padded(&|text, at| u32::from(at < text.ids.len()));
        input = input.with_keep(keep.into_iter().map(|keep| keep as u8).collect());
    }
    if model.config().n_token_type > 0 {
        input =
            input.with_token_types(&padded(&|text, at| text.token_types.get(at).copied().unwrap_or(0)))?;
    }
    let hidden = model.forward(&input, &mut Run::inference())?;
    let hidden = model.read_by_head(&hidden, &input)?;
    Ok(to_rows(&model.logits(&hidden, &mut Run::inference())?)?)
}

/// How often each label was asked for and chosen: rows are the right labels, columns the chosen ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// The counts, `[right][chosen]`.
    pub counts: Vec<Vec<u64>>,
}

/// How well one label was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelScore {
    /// Of the texts that it was chosen for, the share that it is right for; 0 where it was never chosen.
    pub precision: f64,
    /// Of the texts that it is right for, the share that it was chosen for; 0 where there are none.
    pub recall: f64,
    /// Their harmonic mean ([van Rijsbergen 1979](https://www.dcs.gla.ac.uk/Keith/Preface.html), ch. 7).
    pub f1: f64,
    /// How many texts it is right for.
    pub support: u64,
}

impl Confusion {
    /// Counts of nothing, among `n_labels`.
    pub fn new(n_labels: usize) -> Self {
        Self { counts: vec![vec![0; n_labels]; n_labels] }
    }

    /// Counts one text.
    pub fn add(&mut self, right: usize, chosen: usize) {
        if let Some(count) = self.counts.get_mut(right).and_then(|row| row.get_mut(chosen)) {
            *count += 1;
        }
    }

    /// The number of texts.
    pub fn n_texts(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share of texts whose label was told right.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = self.counts.iter().enumerate().map(|(label, row)| row[label]).sum();
        right as f64 / self.n_texts().max(1) as f64
    }

    /// Each label's scores.
    pub fn scores(&self) -> Vec<LabelScore> {
        let score = |label: usize| {
            let both = self.counts[label][label] as f64;
            let support: u64 = self.counts[label].iter().sum();
            let chosen: u64 = self.counts.iter().map(|row| row[label]).sum();
            let share = |of: u64| if of == 0 { 0.0 } else { both / of as f64 };
            let f1 = 2.0 * both / (support + chosen).max(1) as f64;
            LabelScore { precision: share(chosen), recall: share(support), f1, support }
        };
        (0..self.counts.len()).map(score).collect()
    }

    /// The mean F1 over the labels that were asked for or chosen.
    pub fn macro_f1(&self) -> f64 {
        let is_seen = |label: &usize| {
            self.counts[*label].iter().sum::<u64>() + self.counts.iter().map(|row| row[*label]).sum::<u64>()
                > 0
        };
        let scores = self.scores();
        let seen: Vec<f64> = (0..scores.len()).filter(is_seen).map(|label| scores[label].f1).collect();
        seen.iter().sum::<f64>() / seen.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn's `classification_report([0, 1, 2, 2, 2], [0, 0, 2, 2, 1])`: F1 2/3, 0 and 0.8.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let mut found = Confusion::new(3);
        for (right, chosen) in [(0, 0), (1, 0), (2, 2), (2, 2), (2, 1)] {
            found.add(right, chosen);
        }
        assert_eq!((found.n_texts(), found.accuracy()), (5, 0.6));
        let scores = found.scores();
        assert_eq!((scores[0].precision, scores[0].recall, scores[0].support), (0.5, 1.0, 1));
        assert_eq!((scores[1].precision, scores[1].recall, scores[1].f1), (0.0, 0.0, 0.0));
        assert!((scores[2].f1 - 0.8).abs() < 1e-12 && (scores[2].recall - 2.0 / 3.0).abs() < 1e-12);
        assert!((found.macro_f1() - (2.0 / 3.0 + 0.8) / 3.0).abs() < 1e-12);
    }
}
