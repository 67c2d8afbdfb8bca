//! Reading a JSON object field by field, keeping every complaint until the end.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::Error;

/// The longest JSON file that is read: an index of a hundred thousand tensors fits many times over.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a file that holds one JSON object.
///
/// # Errors
/// If it cannot be read, is no JSON (the line and column are named) or is something else than an object.
pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>, Error> {
    let problem = |problem: String| Error::Json { path: path.to_path_buf(), problem };
    let n_bytes = std::fs::metadata(path).map_err(Error::read(path))?.len();
    if n_bytes > MAX_BYTES {
        return Err(problem(format!("has {n_bytes} bytes, more than the {MAX_BYTES} that are read")));
    }
    let text = std::fs::read(path).map_err(Error::read(path))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(problem("is JSON, but not an object".into())),
        Err(error) => Err(problem(format!("is not JSON: {error}"))),
    }
}

/// The fields of one JSON object, and what was wrong with those that were asked for.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Prefix of the keys in complaints, such as `rope_scaling.`.
    prefix: &'static str,
    /// The complaints so far.
    pub(super) problems: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The fields of `object`, whose keys are named with `prefix` in complaints.
    pub(super) fn new(object: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, prefix, problems: Vec::new() }
    }

    /// The value of `key`, unless it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Adds a complaint.
    pub(super) fn complain(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn wrong(&mut self, key: &str, value: &Value, wanted: &str) {
        self.problems.push(format!("{}{key} = {value} is not {wanted}", self.prefix));
    }

    /// A count of at least 1, below 2³¹.
    pub(super) fn count(&mut self, key: &str) -> Option<usize> {
        let value = self.get(key)?;
        match value.as_u64() {
            Some(count @ 1..0x8000_0000) => Some(count as usize),
            _ => {
                self.wrong(key, value, "a whole number from 1 to 2147483647");
                None
            }
        }
    }

    /// A finite number that `fits`, described by `wanted`.
    pub(super) fn number(&mut self, key: &str, fits: impl Fn(f64) -> bool, wanted: &str) -> Option<f64> {
        let value = self.get(key)?;
        match value.as_f64() {
            Some(number) if number.is_finite() && fits(number) => Some(number),
            _ => {
                self.wrong(key, value, wanted);
                None
            }
        }
    }

    /// A finite number above 0.
    pub(super) fn positive(&mut self, key: &str) -> Option<f64> {
        self.number(key, |number| number > 0.0, "a number above 0")
    }

    /// A finite number that is not negative.
    pub(super) fn not_negative(&mut self, key: &str) -> Option<f64> {
        self.number(key, |number| number >= 0.0, "a number, 0 or above")
    }

    /// A probability below 1.
    pub(super) fn probability(&mut self, key: &str) -> Option<f64> {
        self.number(key, |number| (0.0..1.0).contains(&number), "a number from 0 to below 1")
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        if value.as_bool().is_none() {
            self.wrong(key, value, "true or false");
        }
        value.as_bool()
    }

    /// A text.
    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            self.wrong(key, value, "a text");
        }
        value.as_str()
    }

    /// Complains if a flag is set to something else than the only value that is implemented.
    pub(super) fn only(&mut self, key: &str, implemented: bool) {
        if self.flag(key) == Some(!implemented) {
            self.complain(format!("{}{key} = {} is not implemented", self.prefix, !implemented));
        }
    }
}
