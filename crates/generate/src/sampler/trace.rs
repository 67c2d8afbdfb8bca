//! The trace of one choice: what each filter left, and where the draw fell.
//!
//! Lists longer than [`SHOWN`] keep their first entries and state their full length. The last stage and the draw
//! suffice to reproduce the choice by hand: add up the candidates' probabilities until the sum passes the draw.

use serde::Serialize;

use super::{Candidate, filter};
use crate::config::SampleConfig;

/// The maximum number of candidates listed per stage.
const SHOWN: usize = 256;

/// Every step of the chain for one token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The candidates after each filter, in the order of the chain; the first stage is the model's distribution.
    pub stages: Vec<Stage>,
    /// The random number in `[0, 1)`; `None` if the choice is greedy.
    pub draw: Option<f64>,
    /// The interval of cumulative probability of the chosen token, which contains the draw.
    pub interval: [f64; 2],
}

/// The candidates after one filter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// The filter: `model`, `penalties`, `top_k`, `top_p`, `min_p` or `temp`.
    pub filter: &'static str,
    /// Its setting; `None` for the model itself.
    pub value: Option<f64>,
    /// How many candidates there were before it.
    pub before: usize,
    /// How many it left.
    pub after: usize,
    /// Those that it left, largest first, at most 256.
    pub candidates: Vec<Listed>,
}

/// A candidate as listed in a stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// The token's id.
    pub id: u32,
    /// The token's text, if there is a tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its logit at this stage.
    pub logit: f32,
    /// Its probability among the candidates of this stage.
    pub probability: f64,
}

impl Trace {
    pub(super) fn new(logits: &[f32]) -> Self {
        let mut trace = Self { stages: Vec::new(), draw: None, interval: [0.0, 1.0] };
        trace.push("model", None, logits.len(), &filter::candidates(logits, 0));
        trace
    }

    pub(super) fn penalties(&mut self, before: &[f32], after: &[f32], config: &SampleConfig) {
        if before != after {
            let value = Some(config.repeat_penalty);
            self.push("penalties", value, before.len(), &filter::candidates(after, 0));
        }
    }

    pub(super) fn stage(&mut self, name: &'static str, value: f64, candidates: &[Candidate]) {
        let before = self.stages.last().map_or(0, |stage| stage.after);
        self.push(name, Some(value), before, candidates);
    }

    pub(super) fn drawn(&mut self, draw: Option<f64>, probabilities: &[f64], drawn: usize) {
        let below: f64 = probabilities[..drawn].iter().sum();
        self.draw = draw;
        self.interval = [below, below + probabilities[drawn]];
    }

    fn push(&mut self, filter: &'static str, value: Option<f64>, before: usize, candidates: &[Candidate]) {
        let listed = |(candidate, probability): (&Candidate, f64)| Listed {
            id: candidate.id,
            text: None,
            logit: candidate.logit,
            probability,
        };
        let probabilities = filter::softmax(candidates);
        let shown = candidates.iter().zip(probabilities).take(SHOWN).map(listed).collect();
        self.stages.push(Stage { filter, value, before, after: candidates.len(), candidates: shown });
    }

    /// Fills in the text of every listed candidate.
    pub fn name(&mut self, text: &dyn Fn(u32) -> String) {
        let listed = self.stages.iter_mut().flat_map(|stage| &mut stage.candidates);
        listed.for_each(|candidate| candidate.text = Some(text(candidate.id)));
    }
}
