//! The output of `--show-rows`: training rows with their targets marked.

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use vulpes_data::ShownRow;

/// The style of targets on a terminal.
const LEARNED: Style = AnsiColor::Green.on_default().bold();

/// The brackets around targets otherwise.
const BRACKETS: [&str; 2] = ["⟦", "⟧"];

/// Whether standard output supports colors.
pub(super) fn in_color() -> bool {
    AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// The rows for a person.
pub(super) fn text(rows: &[ShownRow], in_color: bool) -> String {
    let marks = match in_color {
        true => [LEARNED.render().to_string(), LEARNED.render_reset().to_string()],
        false => BRACKETS.map(str::to_owned),
    };
    let shown = rows.iter().zip(1..).map(|(row, number)| {
        let learned = match &row.label {
            Some(label) => format!("label {}", visible(label)),
            None => format!("{} of them targets", row.n_learned),
        };
        let mut text = format!("row {number}: {} tokens, {learned}\n", row.ids.len());
        let mut done = 0;
        for &(start, end) in &row.learned {
            // The bytes of one character can belong to several tokens, only some of them targets.
            let (start, end) = (row.text.floor_char_boundary(start), row.text.floor_char_boundary(end));
            text += &visible(&row.text[done..start.max(done)]);
            text += &marks[0];
            text += &visible(&row.text[start.max(done)..end.max(done)]);
            text += &marks[1];
            done = end.max(done);
        }
        text += &visible(&row.text[done..]);
        text
    });
    shown.collect::<Vec<_>>().join("\n\n")
}

/// The rows for a program.
pub(super) fn json(rows: &[ShownRow]) -> Value {
    let row = |row: &ShownRow| {
        let mut value = json!({ "text": row.text, "ids": row.ids, "learned": row.learned });
        if let Some(label) = &row.label {
            value["label"] = json!(label);
        }
        value
    };
    json!({ "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

/// A text with control characters, except line ends, escaped for the terminal.
fn visible(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => vec![c],
        c if c.is_control() => c.escape_debug().collect(),
        c => vec![c],
    };
    text.chars().flat_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_marked() {
        let row = ShownRow {
            text: "a\u{1b}[1mbc\nd".into(),
            ids: vec![1, 2],
            learned: vec![(5, 6), (7, 9)],
            n_learned: 2,
            label: None,
        };
        let rows = [row.clone(), ShownRow { label: Some("sport".into()), learned: vec![], ..row }];
        assert_eq!(
            text(&rows, false),
            "row 1: 2 tokens, 2 of them targets\na\\u{1b}[1m⟦b⟧c⟦\nd⟧\n\nrow 2: 2 tokens, label \
             sport\na\\u{1b}[1mbc\nd"
        );
        assert!(text(&rows, true).contains("\u{1b}[1m\u{1b}[32mb\u{1b}[0m"), "{:?}", text(&rows, true));
        assert_eq!(json(&rows)["rows"][0]["learned"], json!([[5, 6], [7, 9]]));
        assert_eq!(json(&rows)["rows"][1]["label"], "sport");
    }
}
