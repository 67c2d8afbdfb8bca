//! Where a rerun begins: at the newest checkpoint before the first step that it changes.

use std::collections::{BTreeMap, BTreeSet};

use super::rerun::{Rerun, Uses};
use crate::checkpoint;
use crate::error::Result;
use crate::plan::Plan;
use crate::run_folder::checkpoints;
use crate::session::Session;

/// The run before it would differ: at a checkpoint saved before any of `left_out` was read, else at its beginning.
pub(super) fn begin<'a>(
    plan: &'a Plan,
    uses: &BTreeMap<u64, Uses>,
    left_out: &BTreeSet<u64>,
    (to, n_threads): (u64, usize),
) -> Result<Rerun<'a>> {
    let first = left_out.iter().filter_map(|row| Some(uses.get(row)?.first_step)).min().unwrap_or(to + 1);
    let root = checkpoints(&plan.run_dir);
    let before = checkpoint::steps(&root).into_iter().rev().filter(|step| *step < first && *step < to);
    for step in before {
        // A damaged one is skipped: starting earlier leads to the same bits.
        if let Ok(whole) = checkpoint::verify_step(&root, step) {
            return Ok(Rerun::of(plan, Session::restore_on(plan, &whole, n_threads)?.training));
        }
    }
    Rerun::start(plan, n_threads)
}
