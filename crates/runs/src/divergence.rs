//! Whether a run learns or diverges.
//!
//! The rule: the mean of the last [`WINDOW`] losses is more than [`MARGIN`] times the greater one of the run's first
//! loss and of the loss of guessing evenly, `ln n` among `n` answers. A model that has learned anything stays far below;
//! one whose updates are too large ends far above.

use std::collections::VecDeque;

/// Losses that the mean is taken over.
const WINDOW: usize = 10;

/// How far above the first loss and even guessing the mean must be.
const MARGIN: f64 = 1.2;

/// Watches a run's losses.
#[derive(Clone, Debug)]
pub(crate) struct Divergence {
    n_answers: usize,
    first: Option<f64>,
    recent: VecDeque<f64>,
    told: bool,
}

impl Divergence {
    /// Watches a run whose targets are one of `n_answers` each; `first` is its first loss, where one was noted before.
    pub(crate) fn new(n_answers: usize, first: Option<f64>) -> Self {
        Self { n_answers, first, recent: VecDeque::with_capacity(WINDOW), told: false }
    }

    /// Takes a step's loss in.
    pub(crate) fn step(&mut self, loss: f64) {
        self.first.get_or_insert(loss);
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(loss);
    }

    /// The words for a run that diverges, as long as it does.
    pub(crate) fn words(&self) -> Option<String> {
        let even = (self.n_answers.max(1) as f64).ln();
        let first = self.first?;
        let mean = self.recent.iter().sum::<f64>() / WINDOW as f64;
        (self.recent.len() == WINDOW && mean > MARGIN * first.max(even)).then(|| {
            format!(
                "the training diverges: the mean of its last {WINDOW} losses is {mean:.4}, its first was {first:.4}, \
                 and guessing evenly among {} answers has {even:.4}; a smaller optimizer.lr, a warm-up \
                 (schedule.warmup_steps) or optimizer.clip helps",
                self.n_answers
            )
        })
    }

    /// The same words, the first time that there are any.
    pub(crate) fn news(&mut self) -> Option<String> {
        let words = self.words().filter(|_| !self.told)?;
        self.told = true;
        Some(words)
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
    fn a_run_above_its_beginning_and_above_guessing_diverges() {
        assert!(after([3.0; 9].into_iter().chain([3564.0])).words().is_some());
        assert!(after((0..10).map(|i| 3.0 + f64::from(i))).words().is_some());
        assert!(after([3.0].into_iter().chain([3.5; 50])).words().is_none(), "noise");
        assert!(after([3.0, 3564.0]).words().is_none(), "too early to tell");
        assert!(
            after([50.0].into_iter().chain([40.0; 50])).words().is_none(),
            "a bad beginning that gets better"
        );
        assert!(after([0.2].into_iter().chain([2.9; 50])).words().is_none(), "no worse than guessing");
    }

    #[test]
    fn it_is_told_once_and_forgotten_when_the_loss_comes_back() {
        let mut found = after([9.0; 10]);
        assert!(found.news().is_none(), "so it began");
        (0..10).for_each(|_| found.step(90.0));
        assert!(found.news().is_some() && found.news().is_none() && found.words().is_some());
        (0..10).for_each(|_| found.step(2.0));
        assert!(found.words().is_none());
    }
}
