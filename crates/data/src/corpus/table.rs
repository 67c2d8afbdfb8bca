//! Rows with named columns: JSON lines and CSV.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use serde_json::{Map, Value};

use super::files::Source;
use super::{Document, LONGEST_MB, Reading, short};
use crate::error::{Error, Result};

/// Hands out the rows of a file of JSON objects, one a line; blank lines are skipped.
pub(super) fn read_jsonl(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    for_each_line(source, &mut |line, number, read| {
        let row: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
            let message = format!("{error}; wanted one JSON object a line");
            Error::row(&source.path, number, message)
        })?;
        let field = |column: &str| {
            row.get(column).ok_or_else(|| Error::Column {
                path: source.path.clone(),
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
                    Value::String(label) => Some(label.clone()),
                    label @ (Value::Number(_) | Value::Bool(_)) => Some(label.to_string()),
                    other => {
                        let found = short(other);
                        let message =
                            format!("column {column:?} is {found}; wanted a string, number or truth value");
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
            read,
        })
    })
}

/// Hands out the lines of a file that are not blank, with their numbers from 1 and the bytes read up to their ends.
pub(super) fn for_each_line(
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
            let message = format!("a line of more than {LONGEST_MB} MB; wanted one JSON object a line");
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

/// Hands out the rows of a CSV file with a header.
pub(super) fn read_csv(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    let path = &source.path;
    let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 18).from_reader(source.open()?);
    let header = reader.byte_headers().map_err(|error| csv_error(source, &error))?.clone();
    if header.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = header.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let find = |column: &str| {
        known.iter().position(|name| name == column).ok_or_else(|| Error::Column {
            path: path.clone(),
            column: column.into(),
            known: known.clone(),
        })
    };
    let text = find(reading.config.text_column())?;
    let pair = reading.config.pair_column.as_deref().map(find).transpose()?;
    let label = reading.labels.then(|| find(reading.config.label_column())).transpose()?;
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).map_err(|error| csv_error(source, &error))? {
        let place = row.position().cloned().unwrap_or_else(csv::Position::new);
        let read = reader.position().byte();
        let field = |column: usize| {
            std::str::from_utf8(row.get(column).unwrap_or_default()).map_err(|_| {
                // Quotes were taken off the field, so that its bytes have no places in the file any more.
                match bad_byte(source, place.byte(), read) {
                    Ok(offset) => Error::Utf8 { path: path.clone(), offset },
                    Err(error) => error,
                }
            })
        };
        each(Document {
            text: field(text)?,
            pair: pair.map(field).transpose()?,
            label: label.map(field).transpose()?,
            line: place.line(),
            last: true,
            read,
        })?;
    }
    Ok(())
}

/// The offset of the first byte between `start` and `end` that is not UTF-8; `start` where all are.
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
            format!("{len} fields, and the header has {expected_len}; quote fields with commas in them"),
        ),
        _ => Error::row(&source.path, line, error.to_string()),
    }
}
