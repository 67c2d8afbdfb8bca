//! Detects a diverging run.
//!
//! The rule: the mean of the last [`WINDOW`] losses is more than [`MARGIN`] times the greater of the run's first loss
//! and the loss of a uniform guess, `ln n` among `n` answers. A model that has learned anything stays far below; one
//! whose updates are too large ends far above.

use std::collections::VecDeque;

/// Losses that the mean is taken over.
const WINDOW: usize = 10;

/// Factor by which the mean must exceed the first loss and a uniform guess.
const MARGIN: f64 = 1.2;

/// Monitors a run's losses.
#[derive(Clone, Debug)]
pub(crate) struct Divergence {
    n_answers: usize,
    first: Option<f64>,
    recent: VecDeque<f64>,
    told: bool,
}

impl Divergence {
    /// Monitors a run whose targets have `n_answers` classes; `first` is its first loss, if recorded before.
    pub(crate) fn new(n_answers: usize, first: Option<f64>) -> Self {
        Self { n_answers, first, recent: VecDeque::with_capacity(WINDOW), told: false }
    }

    /// Records a step's loss.
    pub(crate) fn step(&mut self, loss: f64) {
        self.first.get_or_insert(loss);
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(loss);
    }

    /// The warning for a diverging run, as long as it diverges.
    pub(crate) fn message(&self) -> Option<String> {
        let even = (self.n_answers.max(1) as f64).ln();
        let first = self.first?;
        let mean = self.recent.iter().sum::<f64>() / WINDOW as f64;
        (self.recent.len() == WINDOW && mean > MARGIN * first.max(even)).then(|| {
            format!(
                "the training diverges: the mean of its last {WINDOW} losses is {mean:.4}, its first was {first:.4}, \
                 and a uniform guess among {} classes has {even:.4}; try a smaller optimizer.lr, a warm-up \
                 (schedule.warmup_steps) or optimizer.clip",
                self.n_answers
            )
        })
    }

    /// The same warning, when the divergence is first detected.
    pub(crate) fn news(&mut self) -> Option<String> {
        let message = self.message().filter(|_| !self.told)?;
        self.told = true;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(losses: impl IntoIterator<Item = f64>) -> Divergence {
        let mut found = Divergence::new(20, None);
        losses.into_iter().for_each(|loss| found.step(loss));
        found
    }

    #[test]
    fn a_mean_loss_above_the_first_and_above_guessing_is_divergence() {
        assert!(after([3.0; 9].into_iter().chain([3564.0])).message().is_some());
        assert!(after((0..10).map(|i| 3.0 + f64::from(i))).message().is_some());
        assert!(after([3.0].into_iter().chain([3.5; 50])).message().is_none(), "noise");
        assert!(after([3.0, 3564.0]).message().is_none(), "too early to tell");
        assert!(
            after([50.0].into_iter().chain([40.0; 50])).message().is_none(),
            "a bad beginning that gets better"
        );
        assert!(after([0.2].into_iter().chain([2.9; 50])).message().is_none(), "no worse than guessing");
    }

    #[test]
    fn divergence_is_reported_once_until_the_loss_recovers() {
        let mut found = after([9.0; 10]);
        assert!(found.news().is_none(), "so it began");
        (0..10).for_each(|_| found.step(90.0));
        assert!(found.news().is_some() && found.news().is_none() && found.message().is_some());
        (0..10).for_each(|_| found.step(2.0));
        assert!(found.message().is_none());
    }
}
