//! Reads a JSON object field by field and collects all problems.

use serde_json::{Map, Value};

/// The fields of one JSON object, and the problems with those that were read.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Prefix of the keys in problems, such as `rope_scaling.`.
    prefix: &'static str,
    /// The problems so far.
    pub(crate) problems: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The fields of `object`, whose keys are prefixed with `prefix` in problems.
    pub(crate) fn new(object: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self { object, prefix, problems: Vec::new() }
    }

    /// The value of `key`, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is present and null.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_null)
    }

    /// Adds a problem.
    pub(crate) fn complain(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn wrong(&mut self, key: &str, value: &Value, wanted: &str) {
        self.problems.push(format!("{}{key} = {value} is not {wanted}", self.prefix));
    }

    /// An integer from 1 to 2³¹ − 1.
    pub(crate) fn count(&mut self, key: &str) -> Option<usize> {
        let value = self.get(key)?;
        match value.as_u64() {
            Some(count @ 1..0x8000_0000) => Some(count as usize),
            _ => {
                self.wrong(key, value, "an integer from 1 to 2147483647");
                None
            }
        }
    }

    /// An integer from 0 to 2³¹ − 1.
    pub(crate) fn whole(&mut self, key: &str) -> Option<usize> {
        let value = self.get(key)?;
        match value.as_u64() {
            Some(whole @ 0..0x8000_0000) => Some(whole as usize),
            _ => {
                self.wrong(key, value, "an integer from 0 to 2147483647");
                None
            }
        }
    }

    /// A count under either of two names, like transformers' `attribute_map`: the second is an alias of the first.
    pub(crate) fn count_of(&mut self, key: &str, other: &str) -> Option<usize> {
        match (self.count(key), self.count(other)) {
            (Some(one), Some(two)) if one != two => {
                self.complain(format!(
                    "{key} = {one}, but {other} = {two}: both are names of the same setting"
                ));
                Some(one)
            }
            (one, two) => one.or(two),
        }
    }

    /// A finite number that `fits`, described by `wanted`.
    pub(crate) fn number(&mut self, key: &str, fits: impl Fn(f64) -> bool, wanted: &str) -> Option<f64> {
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
    pub(crate) fn positive(&mut self, key: &str) -> Option<f64> {
        self.number(key, |number| number > 0.0, "a number above 0")
    }

    /// A finite number that is not negative.
    pub(crate) fn not_negative(&mut self, key: &str) -> Option<f64> {
        self.number(key, |number| number >= 0.0, "a number, 0 or above")
    }

    /// A probability below 1.
    pub(crate) fn probability(&mut self, key: &str) -> Option<f64> {
        self.number(key, |number| (0.0..1.0).contains(&number), "a number from 0 to below 1")
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        if value.as_bool().is_none() {
            self.wrong(key, value, "true or false");
        }
        value.as_bool()
    }

    /// A list; adds a problem if the value is something else.
    pub(crate) fn list(&mut self, key: &str) -> Option<&'a [Value]> {
        let value = self.get(key)?;
        if !value.is_array() {
            self.wrong(key, value, "a list");
        }
        value.as_array().map(Vec::as_slice)
    }

    /// A string.
    pub(crate) fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.get(key)?;
        if value.as_str().is_none() {
            self.wrong(key, value, "a text");
        }
        value.as_str()
    }

    /// Adds a problem if a flag differs from the only implemented value.
    pub(crate) fn only(&mut self, key: &str, implemented: bool) {
        if self.flag(key) == Some(!implemented) {
            self.complain(format!("{}{key} = {} is not implemented", self.prefix, !implemented));
        }
    }
}
