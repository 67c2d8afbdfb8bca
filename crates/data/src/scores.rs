//! Classification scores: accuracy, precision, recall, F1 and the confusion matrix.

use std::collections::BTreeMap;

use serde::Serialize;

/// How often each label was true and which was predicted then. Labels are numbers.
///
/// # Examples
/// ```
/// let mut scores = vulpes_data::Scores::new(2);
/// [(0, 0), (1, 1), (1, 0)].iter().for_each(|&(given, predicted)| scores.count(given, predicted));
/// assert_eq!(scores.confusion(), [[1, 0], [1, 1]]);
/// assert_eq!(scores.accuracy(), Some(2.0 / 3.0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    n_labels: usize,
    /// Counts by pair of true and predicted label; sparse, as few of the pairs of many labels occur.
    counts: BTreeMap<(usize, usize), u64>,
}

/// The scores of one label; `None` for a fraction with denominator 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LabelScores {
    /// The share of rows with this predicted label whose true label it is.
    pub precision: Option<f64>,
    /// The share of rows with this true label that were predicted so.
    pub recall: Option<f64>,
    /// `2 both / (given + predicted)`, the harmonic mean of the two
    /// ([van Rijsbergen 1979](https://www.dcs.gla.ac.uk/Keith/Preface.html), ch. 7).
    pub f1: Option<f64>,
    /// The number of rows with this true label.
    pub support: u64,
}

impl Scores {
    /// Empty counts for `n_labels` labels.
    pub fn new(n_labels: usize) -> Self {
        Self { n_labels, counts: BTreeMap::new() }
    }

    /// Counts one row; numbers that are not labels are ignored.
    pub fn count(&mut self, given: usize, predicted: usize) {
        self.count_rows([given, predicted, 1]);
    }

    /// Counts `n` rows at once, as `[given, predicted, n]`.
    pub fn count_rows(&mut self, [given, predicted, n]: [usize; 3]) {
        if given < self.n_labels && predicted < self.n_labels {
            *self.counts.entry((given, predicted)).or_default() += n as u64;
        }
    }

    /// What was counted, each pair as [`Scores::count_rows`] takes it.
    pub fn rows(&self) -> impl Iterator<Item = [usize; 3]> {
        self.counts.iter().map(|(&(given, predicted), &n)| [given, predicted, n as usize])
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (pair, n) in &other.counts {
            *self.counts.entry(*pair).or_default() += n;
        }
    }

    /// The number of rows counted.
    pub fn n_rows(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The confusion matrix: how often label i was true and label j predicted, `[i][j]`.
    pub fn confusion(&self) -> Vec<Vec<u64>> {
        let mut table = vec![vec![0; self.n_labels]; self.n_labels];
        for (&(given, predicted), &n) in &self.counts {
            table[given][predicted] = n;
        }
        table
    }

    /// The share of rows whose label was predicted; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.counts.iter().filter(|((given, predicted), _)| given == predicted);
        share(right.map(|(_, n)| n).sum(), self.n_rows())
    }

    /// The mean of F1 over the labels that were true or predicted; `None` without rows.
    pub fn macro_f1(&self) -> Option<f64> {
        let seen: Vec<f64> = self.of_labels().iter().filter_map(|label| label.f1).collect();
        (!seen.is_empty()).then(|| seen.iter().sum::<f64>() / seen.len() as f64)
    }

    /// The scores of each label.
    pub fn of_labels(&self) -> Vec<LabelScores> {
        let (mut both, mut given, mut predicted) =
            (vec![0; self.n_labels], vec![0; self.n_labels], vec![0; self.n_labels]);
        for (&(of, told), n) in &self.counts {
            given[of] += n;
            predicted[told] += n;
            both[of] += if of == told { *n } else { 0 };
        }
        let one = |label: usize| LabelScores {
            precision: share(both[label], predicted[label]),
            recall: share(both[label], given[label]),
            f1: share(2 * both[label], given[label] + predicted[label]),
            support: given[label],
        };
        (0..self.n_labels).map(one).collect()
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn's example of `precision_recall_fscore_support`: its macro averages are 2/9, 1/3 and 4/15.
    #[test]
    fn scores_equal_scikit_learn() {
        let mut halves = [Scores::new(4), Scores::new(4)];
        let pairs = [(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1), (9, 0)];
        pairs.iter().enumerate().for_each(|(i, &(given, predicted))| halves[i % 2].count(given, predicted));
        let mut scores = Scores::new(4);
        halves.iter().for_each(|half| scores.add(half));
        let cat = &scores.of_labels()[0];
        assert_eq!((cat.precision, cat.recall, cat.support), (Some(2.0 / 3.0), Some(1.0), 2));
        assert!((cat.f1.unwrap() - 0.8).abs() < 1e-12);
        let owl = &scores.of_labels()[3];
        assert_eq!((owl.precision, owl.recall, owl.f1, owl.support), (None, None, None, 0));
        assert!(
            (scores.macro_f1().unwrap() - 0.8 / 3.0).abs() < 1e-12,
            "labels that never occur are ignored"
        );
        assert_eq!((scores.accuracy(), scores.n_rows()), (Some(1.0 / 3.0), 6));
        assert_eq!((Scores::new(0).accuracy(), Scores::new(0).macro_f1()), (None, None));
    }
}
