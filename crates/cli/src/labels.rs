//! The scores of a classifier's labels, as a table.

use std::fmt::Write;

use vulpes_data::LabelScores;

/// The width of a column of labels.
pub(crate) fn width_of(labels: &[String]) -> usize {
    labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5)
}

/// Precision, recall and F1 of each label, one line per label under a heading.
pub(crate) fn label_table(scores: &[LabelScores], labels: &[String]) -> String {
    let width = width_of(labels);
    let mut text = format!("{:<width$}  precision  recall      F1  support\n", "label");
    for (label, LabelScores { precision, recall, f1, support }) in labels.iter().zip(scores) {
        let (precision, recall, f1) = (number(*precision), number(*recall), number(*f1));
        let _ = writeln!(text, "{label:<width$}  {precision:>9}  {recall:>6}  {f1:>6}  {support:>7}");
    }
    text
}

/// A ratio, or a dash if it is undefined.
pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}
