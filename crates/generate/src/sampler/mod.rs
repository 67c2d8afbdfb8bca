//! The sampler chain: from the logits of one position to one chosen token.
//!
//! `logits` → penalties → top-k → top-p → min-p → temperature → draw. The chain is independent of tensors, model and
//! text. Probabilities are float64 sums over float32 logits in a fixed order, and the draw comes from a stream keyed
//! by (seed, sample, step), so a choice depends only on its logits, its history and its position.

mod filter;
mod trace;

use vulpes_random::Key;

pub use trace::{Listed, Stage, Trace};

use crate::config::SampleConfig;
use crate::error::Error;

/// A token that can still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub id: u32,
    /// Its logit after the filters so far.
    pub logit: f32,
}

/// A chosen token, and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token's id.
    pub id: u32,
    /// Its probability under the model alone: softmax over the entire vocabulary, before any filter.
    pub probability: f64,
    /// Its rank among all tokens by the model's probability; 1 = most likely.
    pub rank: usize,
    /// The probability with which the chain drew it; 1 if greedy.
    pub drawn_with: f64,
    /// The steps of the chain, if requested.
    pub trace: Option<Trace>,
}

/// Chooses tokens according to a [`SampleConfig`], with the random stream of a seed.
///
/// # Examples
/// ```
/// use vulpes_generate::{SampleConfig, Sampler};
/// let sampler = Sampler::new(SampleConfig { temp: 0.0, ..SampleConfig::default() }, 7);
/// let choice = sampler.choose(&[0.1, 2.0, 0.3], &[], (0, 0))?;
/// assert_eq!((choice.id, choice.rank), (1, 1));
/// # Ok::<(), vulpes_generate::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SampleConfig,
    key: Key,
    with_trace: bool,
}

impl Sampler {
    /// A sampler whose draws depend on `seed` alone.
    pub fn new(config: SampleConfig, seed: u64) -> Self {
        Self { config, key: Key::new(seed, "sample"), with_trace: false }
    }

    /// The same sampler, keeping a [`Trace`] of each choice.
    #[must_use]
    pub fn with_trace(mut self) -> Self {
        self.with_trace = true;
        self
    }

    /// The sampling settings.
    pub fn config(&self) -> &SampleConfig {
        &self.config
    }

    /// Chooses the token at step `place.1` of sample number `place.0`.
    ///
    /// `history` is every token so far, prompt included: the repeat penalty reads its end.
    ///
    /// # Errors
    /// Returns an error if `logits` is empty or holds NaN or +inf, which yield no probabilities.
    pub fn choose(&self, logits: &[f32], history: &[u32], place: (u64, u64)) -> Result<Choice, Error> {
        let model = Model::new(logits)?;
        let mut trace = self.with_trace.then(|| Trace::new(logits));
        let penalised = filter::penalise(logits, history, &self.config);
        if let Some(trace) = &mut trace {
            trace.penalties(logits, &penalised, &self.config);
        }
        if self.config.is_greedy() && trace.is_none() {
            let best = filter::greatest(&penalised);
            return Ok(model.choice(best, 1.0, None));
        }
        let mut candidates = filter::candidates(&penalised, self.config.top_k);
        let mut record = |name, value: f64, candidates: &[Candidate]| {
            if let Some(trace) = &mut trace {
                trace.stage(name, value, candidates);
            }
        };
        record("top_k", self.config.top_k as f64, &candidates);
        filter::top_p(&mut candidates, self.config.top_p);
        record("top_p", self.config.top_p, &candidates);
        filter::min_p(&mut candidates, self.config.min_p);
        record("min_p", self.config.min_p, &candidates);
        filter::temperature(&mut candidates, self.config.temp);
        record("temp", self.config.temp, &candidates);

        let probabilities = filter::softmax(&candidates);
        let draw = (!self.config.is_greedy()).then(|| self.key.with(&place.0).row(place.1).uniform_f64());
        let drawn = filter::draw(&probabilities, draw.unwrap_or(0.0));
        if let Some(trace) = &mut trace {
            trace.drawn(draw, &probabilities, drawn);
        }
        Ok(model.choice(candidates[drawn].id, probabilities[drawn], trace))
    }
}

/// The model's distribution at the position.
struct Model<'a> {
    logits: &'a [f32],
    greatest: f32,
    sum: f64,
}

impl<'a> Model<'a> {
    fn new(logits: &'a [f32]) -> Result<Self, Error> {
        let (greatest, sum) = normalizer(logits)?;
        Ok(Self { logits, greatest, sum })
    }

    fn choice(&self, id: u32, drawn_with: f64, trace: Option<Trace>) -> Choice {
        let logit = self.logits[id as usize];
        let before = |(i, other): (usize, &f32)| *other > logit || (*other == logit && i < id as usize);
        let rank = 1 + self.logits.iter().enumerate().filter(|&pair| before(pair)).count();
        let probability = f64::from(logit - self.greatest).exp() / self.sum;
        Choice { id, probability, rank, drawn_with, trace }
    }
}

/// The largest of `logits` and `Σ exp(logit - largest)`, summed in the order of the ids.
///
/// # Errors
/// Returns an error if there are no logits, one is NaN or +inf, or all are -inf.
pub(crate) fn normalizer(logits: &[f32]) -> Result<(f32, f64), Error> {
    if let Some((id, logit)) = logits.iter().enumerate().find(|(_, l)| l.is_nan() || **l == f32::INFINITY) {
        return Err(Error::Logit { id, logit: *logit });
    }
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if greatest == f32::NEG_INFINITY {
        return Err(Error::NoCandidate);
    }
    Ok((greatest, logits.iter().map(|logit| f64::from(logit - greatest).exp()).sum()))
}

#[cfg(test)]
mod tests;
