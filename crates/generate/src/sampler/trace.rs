//! The trace of one choice: what each filter left, and where the draw fell.
//!
//! Lists longer than [`SHOWN`] keep their first entries and say how many there were. The last stage and the draw are
//! enough to follow the choice by hand: go down the candidates, adding up probabilities, until the sum passes the draw.

use serde::Serialize;

use super::{Candidate, filter};
use crate::config::SampleConfig;

/// Candidates listed for one stage at most.
const SHOWN: usize = 256;

/// Every step of the chain for one token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// What stood after each filter, in the order of the chain; the first is what the model alone says.
    pub stages: Vec<Stage>,
    /// The random number of `[0, 1)`; none where the choice is greedy.
    pub draw: Option<f64>,
    /// The stretch of cumulative probability that the chosen token owns: the draw falls in it.
    pub interval: [f64; 2],
}

/// The candidates after one filter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// The filter: `model`, `penalties`, `top_k`, `top_p`, `min_p` or `temp`.
    pub filter: &'static str,
    /// Its setting; none for the model itself.
    pub value: Option<f64>,
    /// How many candidates there were before it.
    pub before: usize,
    /// How many it left.
    pub after: usize,
    /// Those that it left, greatest first, the first 256 of them.
    pub candidates: Vec<Listed>,
}

/// A candidate as a stage lists it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// The token's id.
    pub id: u32,
    /// The token's text; filled in where there is a tokenizer.
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
