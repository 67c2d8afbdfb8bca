//! The filters of the chain, each a function on candidates or logits.
//!
//! From top-k on, candidates are sorted: largest first, equal logits by id.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Candidate;
use crate::config::SampleConfig;

/// Divides the positive logits of recent tokens by the penalty and multiplies the others, once per token.
pub(super) fn penalise<'a>(logits: &'a [f32], history: &[u32], config: &SampleConfig) -> Cow<'a, [f32]> {
    let n = usize::try_from(config.repeat_last_n).unwrap_or(usize::MAX).min(history.len());
    if config.repeat_penalty == 1.0 || n == 0 {
        return Cow::Borrowed(logits);
    }
    let mut recent = history[history.len() - n..].to_vec();
    recent.sort_unstable();
    recent.dedup();
    let mut penalised = logits.to_vec();
    let penalty = config.repeat_penalty as f32;
    for id in recent {
        if let Some(logit) = penalised.get_mut(id as usize) {
            let changed = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            // An extreme penalty makes a logit the largest or smallest finite one, not an infinity: two of those
            // yield no probabilities.
            *logit = if logit.is_finite() { changed.clamp(f32::MIN, f32::MAX) } else { changed };
        }
    }
    Cow::Owned(penalised)
}

/// The id of the largest logit; the first of ties.
pub(super) fn greatest(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).reduce(better).unwrap_or(0) as u32
}

/// The `top_k` largest logits (0: all), largest first.
pub(super) fn candidates(logits: &[f32], top_k: i64) -> Vec<Candidate> {
    let as_candidate = |(id, &logit): (usize, &f32)| Candidate { id: id as u32, logit };
    let mut all: Vec<Candidate> = logits.iter().enumerate().map(as_candidate).collect();
    let k = usize::try_from(top_k).unwrap_or(0);
    if k > 0 && k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all.sort_unstable_by(order);
    all
}

/// Larger logits first, ties by id.
fn order(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Keeps the first candidates that together reach probability `p`, at least one.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p >= 1.0 {
        return;
    }
    let mut sum = 0.0;
    let reached = softmax(candidates).iter().position(|probability| {
        sum += probability;
        sum >= p
    });
    candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
}

/// Keeps candidates at least `p` times as likely as the first.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, p: f64) {
    if p > 0.0 {
        let least = candidates.first().map_or(0.0, |first| f64::from(first.logit)) + p.ln();
        let kept = candidates.iter().take_while(|candidate| f64::from(candidate.logit) >= least).count();
        candidates.truncate(kept.max(1));
    }
}

/// Divides every logit by `temp`; at 0 and below only the first candidate stays.
pub(super) fn temperature(candidates: &mut Vec<Candidate>, temp: f64) {
    if temp <= 0.0 {
        candidates.truncate(1);
        return;
    }
    let greatest = candidates.first().map_or(0.0, |first| f64::from(first.logit));
    let divided = |logit: f32| (f64::from(logit) / temp) as f32;
    let overflows = candidates.iter().any(|one| one.logit.is_finite() && !divided(one.logit).is_finite());
    for candidate in candidates {
        // Probabilities depend on differences alone: if the quotients overflow, the differences from the largest
        // logit do not, and the largest becomes 0.
        candidate.logit = match overflows {
            true => ((f64::from(candidate.logit) - greatest) / temp) as f32,
            false => divided(candidate.logit),
        };
    }
}

/// The candidates' probabilities: `exp(logit - largest) / Σ`, in float64.
pub(super) fn softmax(candidates: &[Candidate]) -> Vec<f64> {
    let greatest = candidates.first().map_or(0.0, |first| first.logit);
    let powers: Vec<f64> = candidates.iter().map(|c| f64::from(c.logit - greatest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The first index whose cumulative probability is above `draw`.
pub(super) fn draw(probabilities: &[f64], draw: f64) -> usize {
    let mut sum = 0.0;
    let above = probabilities.iter().position(|probability| {
        sum += probability;
        sum > draw
    });
    // By rounding, the total can be less than a draw close to 1.
    above.unwrap_or(probabilities.len().saturating_sub(1))
}
