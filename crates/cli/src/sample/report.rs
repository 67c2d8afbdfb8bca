//! A classifier's scores against given labels, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use vulpes_data::{LabelScores, Scores};

use crate::labels::{label_table, number, width_of};

/// The maximum number of labels of a printed confusion matrix.
const WIDEST: usize = 20;

/// Accuracy, macro-F1, the scores of each label, and the confusion matrix.
pub(super) fn report(scores: &Scores, labels: &[String]) -> String {
    let width = width_of(labels);
    let (accuracy, macro_f1) = (number(scores.accuracy()), number(scores.macro_f1()));
    let mut text = format!("{} rows: accuracy {accuracy}, macro-F1 {macro_f1}\n\n", scores.n_rows());
    text += &label_table(&scores.of_labels(), labels);
    if labels.len() > WIDEST {
        let _ = write!(
            text,
            "\nthe confusion matrix of {} labels is too wide to print; use --json",
            labels.len()
        );
        return text;
    }
    let confusion = scores.confusion();
    let cell = confusion
        .iter()
        .flatten()
        .max()
        .map_or(1, |most| most.to_string().len())
        .max(labels.len().to_string().len());
    let _ = writeln!(text, "\nconfusion: given (rows) and predicted (columns, by number)");
    let columns: String = (1..=labels.len()).map(|number| format!("  {number:>cell$}")).collect();
    let wide = labels.len().to_string().len();
    let _ = write!(text, "{:wide$}  {:<width$}{columns}", "", "");
    for (number, (label, row)) in labels.iter().zip(&confusion).enumerate() {
        let row: String = row.iter().map(|count| format!("  {count:>cell$}")).collect();
        let _ = write!(text, "\n{:>wide$}  {:<width$}{row}", number + 1, label);
    }
    text
}

/// The scores as the last JSON line.
pub(super) fn report_json(scores: &Scores, labels: &[String]) -> Value {
    let named = |(label, scores): (&String, LabelScores)| {
        let LabelScores { precision, recall, f1, support } = scores;
        json!({ "label": label, "precision": precision, "recall": recall, "f1": f1, "support": support })
    };
    json!({ "report": {
        "rows": scores.n_rows(),
        "accuracy": scores.accuracy(),
        "macro_f1": scores.macro_f1(),
        "labels": labels.iter().zip(scores.of_labels()).map(named).collect::<Vec<Value>>(),
        "confusion": scores.confusion(),
    } })
}
