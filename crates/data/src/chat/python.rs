//! The Jinja dialect of transformers: its whitespace rules, Python's methods and its added functions.

use std::fmt;

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// The message of a template's `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment in which a template behaves as in transformers; its clock shows `now`, or the machine's time if
/// `None`.
///
/// # Errors
/// None known.
pub(super) fn environment(now: Option<DateTime>) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |format: String| {
        let now = now.unwrap_or_else(|| jiff::ZonedDateTime::now().datetime());
        jiff::fmt::strtime::format(&format, now).map_err(|error| {
            Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}"))
        })
    });
    Ok(environment)
}

/// `tojson` of transformers: Python's `json.dumps` without escapes of non-ASCII characters.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let wrong = |error: &dyn fmt::Display| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut value = serde_json::to_value(value).map_err(|error| wrong(&error))?;
    if sorted == Some(true) {
        value.sort_all_objects();
    }
    let mut bytes = Vec::new();
    let written = match (indent, separators.as_deref()) {
        (Some(indent), _) => {
            let spaces = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        }
        (None, Some([item, key])) if (item.as_str(), key.as_str()) == (",", ":") => {
            value.serialize(&mut Serializer::with_formatter(&mut bytes, CompactFormatter))
        }
        (None, None) => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced)),
        (None, Some(_)) => return Err(wrong(&"tojson supports only the separators (\",\", \":\")")),
    };
    written.map_err(|error| wrong(&error))?;
    Ok(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

/// JSON on one line, with a space after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> String {
        let now = "2025-03-09T14:05:06".parse().unwrap();
        environment(Some(now)).unwrap().render_str(template, ()).unwrap_or_else(|error| format!("{error:#}"))
    }

    #[test]
    fn functions_and_filters_are_those_of_transformers() {
        assert_eq!(rendered("{{ strftime_now('%d %B %Y %H:%M:%S') }}"), "09 March 2025 14:05:06");
        assert_eq!(rendered("{{ {'b': [1, 'ü'], 'a': {}} | tojson }}"), r#"{"b": [1, "ü"], "a": {}}"#);
        assert_eq!(
            rendered("{{ {'b': 1, 'a': [2]} | tojson(sort_keys=true, indent=1) }}").lines().count(),
            6
        );
        assert_eq!(rendered("{{ {'b': 1} | tojson(separators=(',', ':')) }}"), r#"{"b":1}"#);
        assert!(rendered("{{ raise_exception('no ' + 'such') }}").contains("no such"));
        assert_eq!(rendered("{{ ' x'.lstrip().startswith('x') }}{% if true %}\n{% endif %}"), "True");
    }
}
