//! The observer of a run's progress.

use vulpes_trainer::Evaluation;

use crate::metrics::StepLine;

/// Observes a run while it trains, to show it. `()` ignores everything, warnings included.
pub trait Reporter {
    /// The run continues after `first_step`, which is already done, up to `steps`.
    fn begin(&mut self, first_step: u64, steps: u64);
    /// The run will end after `step`, earlier than announced.
    fn ends_at(&mut self, step: u64);
    /// A step was done.
    fn step(&mut self, line: &StepLine);
    /// The model was evaluated after `step`.
    fn evaluation(&mut self, step: u64, found: &Evaluation);
    /// A message.
    fn say(&mut self, message: &str);
    /// A warning.
    fn warn(&mut self, message: &str);
    /// The run has ended, well or not.
    fn finish(&mut self);
}

impl Reporter for () {
    fn begin(&mut self, _first_step: u64, _steps: u64) {}
    fn ends_at(&mut self, _step: u64) {}
    fn step(&mut self, _line: &StepLine) {}
    fn evaluation(&mut self, _step: u64, _found: &Evaluation) {}
    fn say(&mut self, _message: &str) {}
    fn warn(&mut self, _message: &str) {}
    fn finish(&mut self) {}
}
