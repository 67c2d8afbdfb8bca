//! Rows with named columns: JSON lines and CSV.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use serde_json::{Map, Value};

use super::files::Source;
use super::json::fault;
use super::quotes::{OpenQuote, Watched};
use super::{Document, LONGEST_MB, Reading, short};
use crate::error::{Error, Result};

/// Passes on the rows of a file of JSON objects, one per line; blank lines are skipped.
pub(super) fn read_jsonl(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    for_each_line(source, &mut |line, number, read| {
        let row: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
            let message = format!("{}; wanted one JSON object per line", fault(&error, line));
            Error::row(&source.path, number, message)
        })?;
        let field = |column: &str| {
            row.get(column).ok_or_else(|| Error::Column {
                path: source.path.clone(),
                line: Some(number),
                column: column.into(),
                known: row.keys().cloned().collect(),
            })
        };
        let text_of = |column: &str| -> Result<&str> {
            let value = field(column)?;
            value.as_str().ok_or_else(|| {
                let found = short(value);
                Error::row(&source.path, number, format!("column {column:?} is {found}; wanted a string"))
            })
        };
        let label = match reading.labels {
            false => None,
            true => {
                let column = reading.config.label_column();
                match field(column)? {
                    Value::String(label) if label.trim().is_empty() => {
                        return Err(empty_label(&source.path, number, column));
                    }
                    Value::String(label) => Some(label.clone()),
                    label @ Value::Bool(_) => Some(label.to_string()),
                    Value::Number(label) => Some(label_of_number(label.to_string())),
                    other => {
                        let found = short(other);
                        let message =
                            format!("column {column:?} is {found}; wanted a string, number or Boolean");
                        return Err(Error::row(&source.path, number, message));
                    }
                }
            }
        };
        each(Document {
            text: text_of(reading.config.text_column())?,
            pair: reading.config.pair_column.as_deref().map(text_of).transpose()?,
            label: label.as_deref(),
            line: number,
            last: true,
            skipped: 0,
            read,
        })
    })
}

/// Passes on the lines of a file that are not blank, with their numbers from 1 and the bytes read up to their ends.
pub(crate) fn for_each_line(
    source: &Source,
    each: &mut dyn FnMut(&str, u64, u64) -> Result<()>,
) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 18, source.open()?);
    let mut bytes = Vec::new();
    let (mut number, mut offset) = (0, 0u64);
    loop {
        bytes.clear();
        let n = (&mut reader)
            .take((LONGEST_MB << 20) + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|error| Error::read(&source.path, error))?;
        if n == 0 {
            return Ok(());
        }
        number += 1;
        if n as u64 > LONGEST_MB << 20 {
            let message = format!("a line of more than {LONGEST_MB} MB; wanted one JSON object per line");
            return Err(Error::row(&source.path, number, message));
        }
        let line = std::str::from_utf8(&bytes).map_err(|error| Error::Utf8 {
            path: source.path.clone(),
            offset: offset + error.valid_up_to() as u64,
        })?;
        let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { line };
        offset += n as u64;
        if !line.trim().is_empty() {
            each(line, number, offset)?;
        }
    }
}

/// Passes on the rows of a CSV file with a header; a file named `.tsv` is tab-separated.
pub(super) fn read_csv(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    let path = &source.path;
    let open_quote = OpenQuote::default();
    let is_tabbed = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
    let delimiter = if is_tabbed { b'\t' } else { b',' };
    let watched = Watched::new(source.open()?, delimiter, open_quote.clone());
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).buffer_capacity(1 << 18).from_reader(watched);
    let unclosed = || open_quote.line().map(|line| Error::row(path, line, UNCLOSED));
    let header = reader.byte_headers().map_err(|error| csv_error(source, &error))?.clone();
    if header.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let find = |column: &str| {
        known.iter().position(|name| name == column).ok_or_else(|| Error::Column {
            path: path.clone(),
            line: None,
            column: column.into(),
            known: known.clone(),
        })
    };
    let text = find(reading.config.text_column())?;
    let pair = reading.config.pair_column.as_deref().map(find).transpose()?;
    let label = reading.labels.then(|| find(reading.config.label_column())).transpose()?;
    let mut row = csv::ByteRecord::new();
    loop {
        let more = reader.read_byte_record(&mut row).map_err(|error| csv_error(source, &error));
        // At the end of the file an open quote is the cause of any other fault of the last row.
        if let Some(error) = unclosed().filter(|_| reader.is_done()) {
            return Err(error);
        }
        if !more? {
            return Ok(());
        }
        let place = row.position().cloned().unwrap_or_else(csv::Position::new);
        let read = reader.position().byte();
        let field = |column: usize| {
            std::str::from_utf8(row.get(column).unwrap_or_default()).map_err(|_| {
                // The quotes were removed from the field, so the offsets of its bytes in the file are unknown.
                match bad_byte(source, place.byte(), read) {
                    Ok(offset) => Error::Utf8 { path: path.clone(), offset },
                    Err(error) => error,
                }
            })
        };
        let named = label.map(field).transpose()?.map(label_of_number);
        if named.as_ref().is_some_and(|label| label.trim().is_empty()) {
            return Err(empty_label(path, place.line(), reading.config.label_column()));
        }
        each(Document {
            text: field(text)?,
            pair: pair.map(field).transpose()?,
            label: named.as_deref(),
            line: place.line(),
            last: true,
            skipped: 0,
            read,
        })?;
    }
}

const UNCLOSED: &str = "a quote opens here and is never closed, so all rows after it are read as one; close \
                        it, or double it (\"\")";

/// The error of a missing label: an empty field of a table.
pub(super) fn empty_label(path: &std::path::Path, line: u64, column: &str) -> Error {
    Error::row(path, line, format!("column {column:?} is empty; wanted a label"))
}

/// A label as an integer if it is one, so that 1 and 1.0 are one class.
pub(super) fn label_of_number(label: impl AsRef<str>) -> String {
    let label = label.as_ref();
    let whole =
        label.split_once('.').filter(|(_, zeros)| !zeros.is_empty() && zeros.bytes().all(|c| c == b'0'));
    let is_number = |whole: &str| {
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit())
    };
    match whole {
        Some(("-0", _)) => "0".into(),
        Some((whole, _)) if is_number(whole) => whole.into(),
        _ => label.into(),
    }
}

/// The offset of the first byte between `start` and `end` that is not UTF-8; `start` if all are.
fn bad_byte(source: &Source, start: u64, end: u64) -> Result<u64> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(&source.path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| Error::read(&source.path, error))?;
    Ok(start + std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to() as u64, |_| 0))
}

fn csv_error(source: &Source, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => Error::row(
            &source.path,
            line,
            format!(
                "{len} fields, and the header has {expected_len}; quote fields that contain the delimiter"
            ),
        ),
        _ => Error::row(&source.path, line, error.to_string()),
    }
}
