//! How well a classifier met the labels that were given, for a person and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};
use vulpes_data::{LabelScores, Scores};

/// How many labels a matrix for a person has at most.
const WIDEST: usize = 20;

/// Accuracy, macro-F1, the scores of each label, and the confusion matrix.
pub(super) fn report(scores: &Scores, labels: &[String]) -> String {
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5);
    let (accuracy, macro_f1) = (number(scores.accuracy()), number(scores.macro_f1()));
    let mut text = format!("{} rows: accuracy {accuracy}, macro-F1 {macro_f1}\n\n", scores.n_rows());
    let _ = writeln!(text, "{:<width$}  precision  recall      F1  support", "label");
    for (label, LabelScores { precision, recall, f1, support }) in labels.iter().zip(scores.of_labels()) {
        let (precision, recall, f1) = (number(precision), number(recall), number(f1));
        let _ = writeln!(text, "{label:<width$}  {precision:>9}  {recall:>6}  {f1:>6}  {support:>7}");
    }
    if labels.len() > WIDEST {
        let _ =
            write!(text, "\nthe confusion matrix of {} labels is too wide here; --json has it", labels.len());
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

/// The same as the last object of JSON lines.
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

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}
