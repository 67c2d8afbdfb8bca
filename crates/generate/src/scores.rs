//! How well predicted labels meet those that were given.

use serde::Serialize;

/// How often each label was given, and what was predicted then.
///
/// # Examples
/// ```
/// let mut scores = vulpes_generate::Scores::new(vec!["no".into(), "yes".into()]);
/// [(0, 0), (1, 1), (1, 0)].iter().for_each(|&(given, predicted)| scores.add(given, predicted));
/// assert_eq!(scores.confusion(), [[1, 0], [1, 1]]);
/// assert_eq!(scores.accuracy(), Some(2.0 / 3.0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scores {
    labels: Vec<String>,
    confusion: Vec<Vec<u64>>,
}

/// The scores of one label; each is absent where it would be a fraction of nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelScores {
    /// The label.
    pub label: String,
    /// The share of the rows predicted so that were given so.
    pub precision: Option<f64>,
    /// The share of the rows given so that were predicted so.
    pub recall: Option<f64>,
    /// `2 both / (given + predicted)`, the harmonic mean of the two
    /// ([van Rijsbergen 1979](https://www.dcs.gla.ac.uk/Keith/Preface.html), ch. 7).
    pub f1: Option<f64>,
    /// How many rows were given so.
    pub support: u64,
}

impl Scores {
    /// Nothing counted yet, for labels by number.
    pub fn new(labels: Vec<String>) -> Self {
        let confusion = vec![vec![0; labels.len()]; labels.len()];
        Self { labels, confusion }
    }

    /// Counts one row; a number that is no label's counts for nothing.
    pub fn add(&mut self, given: usize, predicted: usize) {
        if let Some(count) = self.confusion.get_mut(given).and_then(|row| row.get_mut(predicted)) {
            *count += 1;
        }
    }

    /// How many rows were counted.
    pub fn n_rows(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    /// How often label i was given and label j predicted, `[i][j]`.
    pub fn confusion(&self) -> &[Vec<u64>] {
        &self.confusion
    }

    /// The share of rows whose label was predicted; absent where there is no row.
    pub fn accuracy(&self) -> Option<f64> {
        let right = (0..self.labels.len()).map(|label| self.confusion[label][label]).sum();
        share(right, self.n_rows())
    }

    /// The mean of F1 over the labels that were given or predicted, as training measures it.
    pub fn macro_f1(&self) -> Option<f64> {
        let seen: Vec<f64> = self.of_labels().iter().filter_map(|label| label.f1).collect();
        (!seen.is_empty()).then(|| seen.iter().sum::<f64>() / seen.len() as f64)
    }

    /// The scores of each label.
    pub fn of_labels(&self) -> Vec<LabelScores> {
        let one = |(number, label): (usize, &String)| {
            let both = self.confusion[number][number];
            let given = self.confusion[number].iter().sum();
            let predicted = self.confusion.iter().map(|row| row[number]).sum();
            LabelScores {
                label: label.clone(),
                precision: share(both, predicted),
                recall: share(both, given),
                f1: share(2 * both, given + predicted),
                support: given,
            }
        };
        self.labels.iter().enumerate().map(one).collect()
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
    fn scores_are_those_of_the_textbook() {
        let mut scores = Scores::new(["cat", "dog", "pig", "owl"].map(str::to_owned).to_vec());
        let pairs = [(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1)];
        pairs.iter().for_each(|&(given, predicted)| scores.add(given, predicted));
        scores.add(9, 0);
        let cat = &scores.of_labels()[0];
        assert_eq!((cat.precision, cat.recall, cat.support), (Some(2.0 / 3.0), Some(1.0), 2));
        assert!((cat.f1.unwrap() - 0.8).abs() < 1e-12);
        let owl = &scores.of_labels()[3];
        assert_eq!((owl.precision, owl.recall, owl.f1, owl.support), (None, None, None, 0));
        assert!(
            (scores.macro_f1().unwrap() - 0.8 / 3.0).abs() < 1e-12,
            "labels that nobody saw count for nothing"
        );
        assert_eq!((scores.accuracy(), scores.n_rows()), (Some(1.0 / 3.0), 6));
        assert_eq!(Scores::new(Vec::new()).accuracy(), None);
        assert_eq!(Scores::new(Vec::new()).macro_f1(), None);
    }
}
