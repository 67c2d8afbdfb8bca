//! The unchanged rerun: it must give the checkpoint's bits, and measures each row's effect on an answer.

use std::collections::{BTreeMap, BTreeSet};

use super::record::Found;
use super::rerun::Rerun;
use super::{Moment, Question, TeacherOptions, TeacherProgress};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::session::Session;
use crate::verify::first_difference;

/// Repeats the run up to the moment's step; `None` if it was told to stop.
///
/// # Errors
/// Returns [`Error::Differs`] if the rerun isn't bit-identical to the checkpoint.
pub(super) fn find(
    plan: &Plan,
    moment: &Moment,
    question: &Question,
    options: &mut TeacherOptions<'_>,
) -> Result<Option<Found>> {
    let asked = question.batch(plan.model.head);
    let mut rerun = Rerun::start(plan, plan.n_threads)?;
    let mut effects: BTreeMap<u64, f64> = BTreeMap::new();
    let of = moment.step();
    while rerun.training.state.step < of {
        if (options.stop)() {
            return Ok(None);
        }
        let rows = rerun.rows()?;
        let of_rows = rerun.training.effects(&rows.batches, &asked)?;
        for (row, effect) in rows.numbers.iter().flatten().zip(of_rows) {
            *effects.entry(*row).or_insert(0.0) += effect;
        }
        rerun.step(rows, &BTreeSet::new())?;
        (options.hear)(TeacherProgress::Finding { step: rerun.training.state.step, of });
    }
    let saved = Session::restore(plan, &moment.whole)?;
    if let Some(difference) = first_difference(&rerun.training, &saved.training)? {
        return Err(Error::Differs(format!(
            "the run in {} can't be reproduced: at step {of}, {difference}. The effect of rows can't be proved for \
             a run that was resumed with another config, or trained on another corpus or device: train it again",
            moment.run_dir().display()
        )));
    }
    Ok(Some(Found { probability: question.probability(rerun.training.model())?, effects }))
}
