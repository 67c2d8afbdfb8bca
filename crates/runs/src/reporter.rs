//! Who hears how a run goes on.

use vulpes_trainer::Evaluation;

use crate::metrics::StepLine;

/// Hears of a run while it goes on, to show it. `()` hears nothing, warnings included.
pub trait Reporter {
    /// The run goes on after `first_step`, which is done already, to `steps`.
    fn begin(&mut self, first_step: u64, steps: u64);
    /// A step was done.
    fn step(&mut self, line: &StepLine);
    /// The model was evaluated after `step`.
    fn evaluation(&mut self, step: u64, found: &Evaluation);
    /// Something worth a line.
    fn say(&mut self, message: &str);
    /// Something that a person should know of.
    fn warn(&mut self, message: &str);
    /// The run has ended, well or not.
    fn finish(&mut self);
}

impl Reporter for () {
    fn begin(&mut self, _first_step: u64, _steps: u64) {}
    fn step(&mut self, _line: &StepLine) {}
    fn evaluation(&mut self, _step: u64, _found: &Evaluation) {}
    fn say(&mut self, _message: &str) {}
    fn warn(&mut self, _message: &str) {}
    fn finish(&mut self) {}
}
