//! Rows with named columns: Parquet files.

use std::fs::File;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::files::Source;
use super::table::{empty_label, label_of_number};
use super::{Document, Reading, short};
use crate::error::{Error, Result};

/// Passes on the rows of a Parquet file; reads only the columns that are used.
pub(super) fn read_parquet(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    let path = &source.path;
    let wrong =
        |line: u64, error: ParquetError| Error::row(path, line, format!("{error}; wanted a Parquet file"));
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let reader = SerializedFileReader::new(file).map_err(|error| wrong(1, error))?;
    let schema = reader.metadata().file_metadata().schema();
    let find = |column: &str| -> Result<Arc<Type>> {
        let field = schema.get_fields().iter().find(|field| field.name() == column);
        field.cloned().ok_or_else(|| Error::Column {
            path: path.clone(),
            line: None,
            column: column.into(),
            known: schema.get_fields().iter().map(|field| field.name().to_owned()).collect(),
        })
    };
    let config = reading.config;
    let label = reading.labels.then(|| config.label_column());
    let names: Vec<&str> =
        [Some(config.text_column()), config.pair_column.as_deref(), label].into_iter().flatten().collect();
    let mut fields: Vec<Arc<Type>> = Vec::new();
    for name in &names {
        let field = find(name)?;
        if !fields.iter().any(|known| known.name() == field.name()) {
            fields.push(field);
        }
    }
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build();
    let rows =
        projection.and_then(|columns| reader.get_row_iter(Some(columns))).map_err(|error| wrong(1, error))?;
    // The bytes of a row are spread over the file: its share of the rows is used for progress.
    let n_rows = reader.metadata().file_metadata().num_rows().max(1) as f64;
    for (row, line) in rows.zip(1..) {
        let row = row.map_err(|error| wrong(line, error))?;
        let value =
            |name: &str| row.get_column_iter().find(|(column, _)| *column == name).map(|(_, value)| value);
        let text = |name: &str| match value(name) {
            Some(Field::Str(text)) => Ok(text.as_str()),
            other => {
                let found = other.map_or_else(|| "missing".to_owned(), short);
                Err(Error::row(path, line, format!("column {name:?} is {found}; wanted a string")))
            }
        };
        let label = match label.map(|name| (name, value(name))) {
            None => None,
            Some((name, Some(Field::Str(label)))) if label.trim().is_empty() => {
                return Err(empty_label(path, line, name));
            }
            Some((_, Some(Field::Str(label)))) => Some(label.clone()),
            Some((name, None | Some(Field::Null))) => {
                return Err(Error::row(path, line, format!("column {name:?} is null; wanted a label")));
            }
            Some((_, Some(other))) => Some(label_of_number(other.to_string())),
        };
        each(Document {
            text: text(config.text_column())?,
            pair: config.pair_column.as_deref().map(text).transpose()?,
            label: label.as_deref(),
            line,
            last: true,
            skipped: 0,
            read: (source.len as f64 * (line as f64 / n_rows)) as u64,
        })?;
    }
    Ok(())
}
