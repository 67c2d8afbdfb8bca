//! Typed access to the keys of a file; every invalid value is collected and reported together.

use serde_json::{Map, Value};

/// The keys of an architecture, and the problems found in them.
pub(super) struct Said<'a> {
    keys: &'a Map<String, Value>,
    architecture: &'static str,
    pub(super) problems: Vec<String>,
}

impl<'a> Said<'a> {
    pub(super) fn new(keys: &'a Map<String, Value>, architecture: &'static str) -> Self {
        Self { keys, architecture, problems: Vec::new() }
    }

    /// The value of a key of the architecture.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(&format!("{}.{key}", self.architecture))
    }

    fn typed<T>(&mut self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.get(key)?;
        let found = read(value);
        if found.is_none() {
            let shown: String = value.to_string().chars().take(40).collect();
            self.problems.push(format!("{}.{key} is {shown}; expected {wanted}", self.architecture));
        }
        found
    }

    /// A non-negative integer.
    pub(super) fn count(&mut self, key: &str) -> Option<usize> {
        self.typed(key, "one non-negative integer for all layers", |value| {
            usize::try_from(value.as_u64()?).ok()
        })
    }

    /// A number: the shortest decimal that rounds to the stored float32, the one that was written.
    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        self.typed(key, "a number", |value| decimal(value.as_f64()? as f32))
    }

    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A list of Booleans.
    pub(super) fn flags(&mut self, key: &str) -> Option<Vec<bool>> {
        self.typed(key, "a list of true or false", |value| {
            value.as_array()?.iter().map(Value::as_bool).collect()
        })
    }

    /// A list of strings.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.typed(key, "a list of strings", |value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    /// Reports a required key as missing if it is.
    pub(super) fn needed<T: Default>(&mut self, key: &str, found: Option<T>) -> T {
        if found.is_none() && self.get(key).is_none() {
            self.problems.push(format!("has no key {}.{key}, which is required", self.architecture));
        }
        found.unwrap_or_default()
    }
}

/// The shortest decimal that rounds to this float32; `None` if it is not finite.
fn decimal(x: f32) -> Option<f64> {
    x.to_string().parse().ok().filter(|number: &f64| number.is_finite())
}
