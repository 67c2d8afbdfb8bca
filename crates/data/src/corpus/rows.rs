//! The rows of one file to predict or embed, read like those of a corpus.

use std::path::Path;

use super::cut::Cut;
use super::files::Sources;
use super::{Reading, read};
use crate::config::{DataConfig, DataKind, DocumentConfig, Paths};
use crate::error::{Error, Result};

/// The columns to read from a table; plain text has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The column of the text; unset: `text`.
    pub text: Option<String>,
    /// The column of the second text of a pair; unset: no pairs.
    pub pair: Option<String>,
    /// The column of the label; unset: no labels.
    pub label: Option<String>,
}

/// One row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextRow<'a> {
    /// The text.
    pub text: &'a str,
    /// The second text of a pair.
    pub pair: Option<&'a str>,
    /// The label.
    pub label: Option<&'a str>,
    /// The line where it begins, from 1.
    pub line: u64,
}

/// Passes the rows of a file to `each` in order, with never more than a part of the file in memory: table rows by the
/// file's extension, else each line that is not blank.
///
/// # Errors
/// Returns an error if the file can't be read or a row doesn't match the extension, and the errors of `each`.
pub fn for_each_row<E: From<Error>>(
    path: &Path,
    columns: &Columns,
    each: &mut dyn FnMut(TextRow<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let mut refused = None;
    let result = read_rows(path, columns, &mut |row| {
        each(row).map_err(|error| {
            refused = Some(error);
            Error::config("rows", "the reader was stopped")
        })
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(result?),
    }
}

fn read_rows(path: &Path, columns: &Columns, each: &mut dyn FnMut(TextRow<'_>) -> Result<()>) -> Result<()> {
    let kind = DataKind::by_ending(&path.to_string_lossy()).unwrap_or(DataKind::Text);
    if kind == DataKind::Parquet && !cfg!(feature = "parquet") {
        let message = "parquet is not compiled in; build with --features parquet".to_owned();
        return Err(Error::row(path, 1, message));
    }
    let config = DataConfig {
        kind,
        document: if kind == DataKind::Text { DocumentConfig::Line } else { DocumentConfig::File },
        text_column: columns.text.clone(),
        pair_column: columns.pair.clone(),
        label_column: columns.label.clone(),
        ..DataConfig::default()
    };
    let reading = Reading { config: &config, labels: columns.label.is_some(), cut: Cut::Never, look: None };
    for source in &Sources::find("the file of rows", &Paths(vec![path.display().to_string()]))?.files {
        read(source, &reading, &mut |document| {
            let super::Document { text, pair, label, line, .. } = document;
            each(TextRow { text, pair, label, line })
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, content: &str, columns: &Columns) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut rows = Vec::new();
        for_each_row(&path, columns, &mut |row| {
            rows.push(format!("{}:{}|{:?}|{:?}", row.line, row.text, row.pair, row.label));
            Ok::<(), Error>(())
        })?;
        Ok(rows)
    }

    #[test]
    fn rows_are_read_by_extension_with_line_numbers() {
        let all = Columns { text: Some("a".into()), pair: Some("b".into()), label: Some("c".into()) };
        let csv = "a,b,c\n\"x\ny\",2,3\n,5,6\n";
        assert_eq!(
            rows("r.csv", csv, &all).unwrap(),
            ["2:x\ny|Some(\"2\")|Some(\"3\")", "4:|Some(\"5\")|Some(\"6\")"]
        );
        let tabs = "a\tb\tc\n\"x\ty\"\t2, 3\t4\n";
        assert_eq!(rows("r.tsv", tabs, &all).unwrap(), ["2:x\ty|Some(\"2, 3\")|Some(\"4\")"]);
        let json = "{\"a\":\"x\",\"b\":\"y\",\"c\":7}\n";
        assert_eq!(rows("r.jsonl", json, &all).unwrap(), ["1:x|Some(\"y\")|Some(\"7\")"]);
        let none = Columns::default();
        assert_eq!(rows("r.txt", "x\n\n y\r\n", &none).unwrap(), ["1:x|None|None", "3: y|None|None"]);
        assert!(rows("r.csv", "b\n1\n", &none).unwrap_err().to_string().contains("no column \"text\""));
    }

    #[test]
    fn the_reader_stops_at_an_error_of_the_callback() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.txt");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        let mut n = 0;
        let error = for_each_row(&path, &Columns::default(), &mut |row| {
            n += 1;
            if row.text == "b" { Err(Error::config("mine", "enough")) } else { Ok(()) }
        });
        assert_eq!((n, error.unwrap_err().to_string().as_str()), (2, "mine: enough"));
    }
}
