//! Reruns with rows left out: in parallel for small models, else one after the other on all threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use vulpes_trainer::{LARGE, STACK_BYTES};

use super::begin::begin;
use super::record::Record;
use super::rerun::Uses;
use super::{Moment, Question, TeacherOptions, TeacherProgress};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// The result of a rerun: its index, and the answer's probability; `None` if it was stopped.
type Done = (usize, Result<Option<f64>>);

/// The answer's probability without each of the sets of rows, in their order; results in the record are reused. `None`
/// if it was told to stop.
pub(super) fn prove(
    plan: &Plan,
    moment: &Moment,
    question: &Question,
    (uses, sets): (&BTreeMap<u64, Uses>, &[BTreeSet<u64>]),
    record: &mut Record,
    options: &mut TeacherOptions<'_>,
) -> Result<Option<Vec<f64>>> {
    let left: Vec<usize> = (0..sets.len()).filter(|at| record.without(&sets[*at]).is_none()).collect();
    let is_small = vulpes_model::n_parameters(&plan.model) < LARGE;
    let n_worker = if is_small { plan.n_threads.min(left.len()) } else { 1 };
    let n_threads = if n_worker > 1 { 1 } else { plan.n_threads };
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let stop = options.stop;
    let halt = || stop() || is_over.load(Ordering::Relaxed);
    let one = |at: usize| -> Result<Option<f64>> {
        let rerun = begin(plan, uses, &sets[at], (moment.step(), n_threads))?;
        let Some(training) = rerun.up_to(moment.step(), &sets[at], &halt)? else { return Ok(None) };
        question.probability(training.model()).map(Some)
    };
    let work = |sender: Sender<Done>| {
        while let Some(at) = left.get(next.fetch_add(1, Ordering::Relaxed)) {
            if halt() || sender.send((*at, one(*at))).is_err() {
                return;
            }
        }
    };
    let of = sets.len();
    let mut done = of - left.len();
    (options.hear)(TeacherProgress::Proving { done, of });
    let (sender, receiver) = channel::<Done>();
    let mut is_stopped = false;
    std::thread::scope(|scope| -> Result<()> {
        for number in 0..n_worker {
            let sender = sender.clone();
            let thread = std::thread::Builder::new().name(format!("rerun-{number}")).stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, || work(sender)).map_err(Error::BareIo)?;
        }
        drop(sender);
        let mut failed = None;
        for (at, found) in receiver {
            let kept = match found {
                Ok(Some(probability)) => record.write_without(&sets[at], probability),
                Ok(None) => {
                    is_stopped = true;
                    continue;
                }
                Err(error) => Err(error),
            };
            done += 1;
            match kept {
                Ok(()) => (options.hear)(TeacherProgress::Proving { done, of }),
                Err(error) => {
                    // The others stop at their next step.
                    is_over.store(true, Ordering::Relaxed);
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    })?;
    let found: Option<Vec<f64>> = sets.iter().map(|set| record.without(set)).collect();
    Ok(found.filter(|_| !is_stopped))
}
