//! The training rows behind an answer: found by gradients along the run, proved by reruns without them.
//!
//! model folder → [`Moment`] (the run, and the checkpoint that the model is) → the run repeated up to that step, which
//! must give the checkpoint's bits; on the way each row's effect on the answer, to first order → reruns, each with the
//! targets of one row left out → the answer's probability without it → reruns without the strongest of them together.
//!
//! **What is left out.** A row's targets, in every step that uses it. The row is still read: the batches, their order
//! and padding, the dropout masks and the schedule are those of the run. The sum of the losses is divided by the number
//! of all targets (with class weights, by their weights), including those left out: so every other row keeps its exact
//! weight, and a step's gradient is the run's minus the row's part. With a smaller divisor all other rows of the batch
//! would weigh more, and the rerun would show that as well. Clipping and AdamW's moment estimates follow from the
//! gradients, as usual.
//!
//! The results are kept in the run's folder, one line per rerun, so that an interrupted search continues.

mod begin;
mod moment;
mod prove;
mod question;
mod record;
mod rerun;
mod suspects;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use moment::Moment;
pub use question::Question;
pub(crate) use record::TEACHERS;

use crate::error::{Error, Result};
use crate::plan::Plan;
use prove::prove;
use record::{Found, Record};

/// Up to this cost in tokens times parameters, every row of a run is proved; in larger runs the strongest by gradient.
const ALL_ROWS: f64 = 2e11;

/// Options of a search.
pub struct TeacherOptions<'a> {
    /// The number of rows to find.
    pub top: usize,
    /// Whether to stop; called often, by several threads.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Receives progress reports.
    pub hear: &'a mut dyn FnMut(TeacherProgress),
}

/// The progress of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeacherProgress {
    /// The unchanged run is repeated, and the gradients of its rows are compared with the question's.
    Finding {
        /// Steps done.
        step: u64,
        /// The total.
        of: u64,
    },
    /// Reruns without single rows.
    Proving {
        /// Reruns done, including those of an earlier call.
        done: usize,
        /// The total.
        of: usize,
    },
}

/// The rows that an answer depends on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Teachers {
    /// The step of the checkpoint that the model is.
    pub step: u64,
    /// The number of distinct rows that the run had read by then.
    pub n_rows: usize,
    /// The number of rows that were left out one at a time.
    pub n_proved: usize,
    /// The answer's probability with all of them.
    pub probability: f64,
    /// The strongest by their gradients, strongest first.
    pub rows: Vec<Teacher>,
    /// The answer's probability without any of these.
    pub without_all: f64,
    /// All rows in that order, if each was left out once.
    pub every: Vec<Teacher>,
    /// Spearman's rank correlation of the gradients' order with that of the reruns, if every row was left out once.
    pub agreement: Option<f64>,
}

/// One row, and what the answer would be without it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Teacher {
    /// The row's number in the training set, from 0.
    pub row: u64,
    /// How often the run had read it.
    pub uses: u64,
    /// The increase of the answer's log-probability by its updates in nats, to first order, summed over all steps.
    pub effect: f64,
    /// The answer's probability if its targets are left out.
    pub without: f64,
    /// The answer's probability if those of the rows before it are left out, too; in a large run only for the last row.
    pub together: Option<f64>,
}

/// Finds and proves the rows that an answer depends on; `None` if it was stopped; the next call then continues.
///
/// # Errors
/// Returns an error if the run can't be reproduced: [`crate::Error::Differs`] says where it differs.
pub fn teachers(
    plan: &Plan,
    moment: &Moment,
    question: &Question,
    options: &mut TeacherOptions<'_>,
) -> Result<Option<Teachers>> {
    let train = &plan.config.train;
    let unsuited = [
        ("train.len_from", train.len_from.is_some()),
        ("train.budget_minutes", train.budget_minutes.is_some()),
    ];
    if let Some((key, _)) = unsuited.into_iter().find(|(_, is_given)| *is_given) {
        return Err(Error::Usage(format!(
            "the search for an answer's teachers doesn't support {key}: train without it"
        )));
    }
    let mut record = Record::open(&plan.run_dir, &record::key(plan, moment, question)?);
    let uses = rerun::uses(plan, moment.step())?;
    let found = match record.found() {
        Some(found) => found.clone(),
        None => {
            let Some(found) = suspects::find(plan, moment, question, options)? else { return Ok(None) };
            record.write_found(&found)?;
            found
        }
    };
    let by_effect = by_effect(&found);
    let is_every_row = cost(plan, moment, by_effect.len()) <= ALL_ROWS;
    let n_proved = if is_every_row { by_effect.len() } else { options.top.min(by_effect.len()) };
    let alone: Vec<BTreeSet<u64>> = by_effect[..n_proved].iter().map(|row| BTreeSet::from([*row])).collect();
    let Some(alone) = prove(plan, moment, question, (&uses, &alone), &mut record, options)? else {
        return Ok(None);
    };
    let mut proved: Vec<Teacher> = by_effect
        .iter()
        .zip(&alone)
        .map(|(row, without)| Teacher {
            row: *row,
            uses: uses.get(row).map_or(0, |uses| uses.times),
            effect: found.effects.get(row).copied().unwrap_or(0.0),
            without: *without,
            together: None,
        })
        .collect();
    let agreement = is_every_row.then(|| agreement(&proved)).flatten();
    // Similar rows substitute for each other: their effect shows when they are left out together.
    let top = options.top.min(n_proved);
    let first = if is_every_row { 1 } else { top };
    let together: Vec<BTreeSet<u64>> =
        (first..=top).map(|n| by_effect[..n].iter().copied().collect()).collect();
    let Some(together) = prove(plan, moment, question, (&uses, &together), &mut record, options)? else {
        return Ok(None);
    };
    for (n, without) in (first..=top).zip(&together) {
        proved[n - 1].together = Some(*without);
    }
    Ok(Some(Teachers {
        step: moment.step(),
        n_rows: by_effect.len(),
        n_proved,
        probability: found.probability,
        without_all: together.last().copied().unwrap_or(found.probability),
        rows: proved[..top].to_vec(),
        every: if is_every_row { proved } else { Vec::new() },
        agreement,
    }))
}

/// The rows by decreasing effect.
fn by_effect(found: &Found) -> Vec<u64> {
    let mut rows: Vec<(&u64, &f64)> = found.effects.iter().collect();
    rows.sort_by(|one, other| other.1.total_cmp(one.1).then(one.0.cmp(other.0)));
    rows.into_iter().map(|(row, _)| *row).collect()
}

/// The tokens of this many reruns times the parameters.
fn cost(plan: &Plan, moment: &Moment, n_rerun: usize) -> f64 {
    moment.tokens() as f64 * vulpes_model::n_parameters(&plan.model) as f64 * n_rerun as f64
}

/// Spearman's rank correlation of effects and rerun results; `None` if all effects or all results are equal.
fn agreement(proved: &[Teacher]) -> Option<f64> {
    let ranks = |number: &dyn Fn(&Teacher) -> f64| -> Vec<f64> {
        let mut sorted: Vec<f64> = proved.iter().map(number).collect();
        sorted.sort_by(f64::total_cmp);
        let places: BTreeMap<u64, (f64, f64)> =
            sorted.iter().enumerate().fold(BTreeMap::new(), |mut places, (at, number)| {
                let (sum, n) = places.entry(number.to_bits()).or_insert((0.0, 0.0));
                (*sum, *n) = (*sum + at as f64, *n + 1.0);
                places
            });
        // Ties share the mean of their ranks.
        let rank = |number: f64| places.get(&number.to_bits()).map_or(0.0, |(sum, n)| sum / n);
        proved.iter().map(|teacher| rank(number(teacher))).collect()
    };
    let (a, b) = (ranks(&|teacher| teacher.effect), ranks(&|teacher| -teacher.without));
    let middle = (proved.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum() };
    let norm = (product(&a, &a) * product(&b, &b)).sqrt();
    (norm > 0.0).then(|| product(&a, &b) / norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_spearmans_rank_correlation() {
        let proved = |pairs: &[(f64, f64)]| -> Vec<Teacher> {
            let teacher = |&(effect, without)| Teacher { row: 0, uses: 1, effect, without, together: None };
            pairs.iter().map(teacher).collect()
        };
        let same = proved(&[(3.0, 0.1), (2.0, 0.5), (1.0, 0.6), (-4.0, 0.9)]);
        assert!((agreement(&same).unwrap() - 1.0).abs() < 1e-12);
        let reverse = proved(&[(1.0, 0.1), (2.0, 0.5), (3.0, 0.6)]);
        assert!((agreement(&reverse).unwrap() + 1.0).abs() < 1e-12);
        // By hand: ranks 0 1 2 3 against 1 0 2.5 2.5.
        let tied = proved(&[(1.0, 0.8), (2.0, 0.9), (3.0, 0.5), (4.0, 0.5)]);
        let by_hand = (-1.5 * -0.5 + -0.5 * -1.5 + 0.5 + 1.5) / (5.0f64 * 4.5).sqrt();
        assert!((agreement(&tied).unwrap() - by_hand).abs() < 1e-12);
        assert_eq!(agreement(&proved(&[(1.0, 0.5), (2.0, 0.5)])), None);
    }
}
