//! A rerun: the run repeated, with the targets of some rows left out.

use std::collections::{BTreeMap, BTreeSet};

use vulpes_data::{Batch, Cursor};
use vulpes_trainer::{State, StepNumbers, Training, TrainingOptions};

use crate::error::{Error, Result};
use crate::plan::Plan;

/// The use of a row by a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses {
    /// The first step that reads it.
    pub(super) first_step: u64,
    /// How many times it is read.
    pub(super) times: u64,
}

/// The rows that a run has read by step `to`.
pub(super) fn uses(plan: &Plan, to: u64) -> Result<BTreeMap<u64, Uses>> {
    let mut uses: BTreeMap<u64, Uses> = BTreeMap::new();
    let mut cursor = Cursor::default();
    for step in 1..=to {
        for _ in 0..plan.micro_batches(step) {
            let rows = plan.config.train.batch_rows;
            for row in plan.dataset.row_numbers(cursor, rows) {
                uses.entry(row).or_insert(Uses { first_step: step, times: 0 }).times += 1;
            }
            cursor = plan.dataset.advance(cursor, rows as u64);
        }
    }
    Ok(uses)
}

/// A repeated training at some step of the run.
pub(super) struct Rerun<'a> {
    plan: &'a Plan,
    pub(super) training: Training,
}

/// The batches of the next step.
pub(super) struct Rows {
    pub(super) batches: Vec<Batch>,
    /// The row indices of each batch.
    pub(super) numbers: Vec<Vec<u64>>,
    after: Cursor,
}

impl<'a> Rerun<'a> {
    /// The run before its first step.
    pub(super) fn start(plan: &'a Plan, n_threads: usize) -> Result<Self> {
        let (transformer, _) = plan.init()?;
        let options = TrainingOptions { n_threads, ..plan.training() };
        Ok(Self { plan, training: Training::new(&transformer, options, State::start())? })
    }

    /// The run at the step of `training`.
    pub(super) fn of(plan: &'a Plan, training: Training) -> Self {
        Self { plan, training }
    }

    /// The batches of the next step.
    pub(super) fn rows(&self) -> Result<Rows> {
        let train = &self.plan.config.train;
        let dataset = &self.plan.dataset;
        let mut rows = Rows { batches: Vec::new(), numbers: Vec::new(), after: self.training.state.cursor };
        for _ in 0..self.plan.micro_batches(self.training.state.step + 1) {
            rows.batches.push(dataset.batch(rows.after, train.batch_rows)?);
            rows.numbers.push(dataset.row_numbers(rows.after, train.batch_rows));
            rows.after = dataset.advance(rows.after, train.batch_rows as u64);
        }
        Ok(rows)
    }

    /// Does the step on `rows`, without the targets of those in `left_out`.
    pub(super) fn step(&mut self, mut rows: Rows, left_out: &BTreeSet<u64>) -> Result<StepNumbers> {
        let divisor = self.training.divisor(&rows.batches);
        for (batch, numbers) in rows.batches.iter_mut().zip(&rows.numbers) {
            for (at, _) in numbers.iter().enumerate().filter(|(_, row)| left_out.contains(row)) {
                batch.ask_nothing_of(at);
            }
        }
        let numbers = self.training.advance_over(&rows.batches, divisor).map_err(|error| match error {
            vulpes_trainer::Error::FailedStep(failed) => Error::Numbers(format!("the rerun: {failed}")),
            error => error.into(),
        })?;
        self.training.state.cursor = rows.after;
        Ok(numbers)
    }

    /// Continues up to step `to`; `None` if it was told to stop before.
    pub(super) fn up_to(
        mut self,
        to: u64,
        left_out: &BTreeSet<u64>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Training>> {
        while self.training.state.step < to {
            if stop() {
                return Ok(None);
            }
            let rows = self.rows()?;
            self.step(rows, left_out)?;
        }
        Ok(Some(self.training))
    }
}
