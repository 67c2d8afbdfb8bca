//! The filters of the chain, each a plain function on candidates or logits.
//!
//! From top-k on, candidates stand greatest first, equal logits by id.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Candidate;
use crate::config::SampleConfig;

/// Divides the positive logits of recent tokens by the penalty and multiplies the others, once for each token.
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
            // A penalty near 0 or beyond all measure makes a logit the greatest or least there can be, not an infinity:
            // from two of those no probabilities follow.
            *logit = if logit.is_finite() { changed.clamp(f32::MIN, f32::MAX) } else { changed };
        }
    }
    Cow::Owned(penalised)
}

/// The id of the greatest logit, the first of equals.
pub(super) fn greatest(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).reduce(better).unwrap_or(0) as u32
}

/// The `top_k` greatest logits (0: all), greatest first.
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

/// Greater logits first, equal ones by id.
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
        // Probabilities hang on differences alone: where the quotients are too large, those to the greatest logit are
        // not, and the greatest becomes 0.
        candidate.logit = match overflows {
            true => ((f64::from(candidate.logit) - greatest) / temp) as f32,
            false => divided(candidate.logit),
        };
    }
}

/// The candidates' probabilities: `exp(logit - greatest) / Σ`, in float64.
pub(super) fn softmax(candidates: &[Candidate]) -> Vec<f64> {
    let greatest = candidates.first().map_or(0.0, |first| first.logit);
    let powers: Vec<f64> = candidates.iter().map(|c| f64::from(c.logit - greatest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The first place whose cumulative probability is above `draw`.
pub(super) fn draw(probabilities: &[f64], draw: f64) -> usize {
    let mut sum = 0.0;
    let above = probabilities.iter().position(|probability| {
        sum += probability;
        sum > draw
    });
    // The sum of all can fall short of a draw close to 1 by rounding.
    above.unwrap_or(probabilities.len().saturating_sub(1))
}
