//! A config fault: what is wrong, where, what was expected, and what to do.

use std::ops::Range;

/// One fault of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(crate) title: String,
    pub(super) places: Vec<Place>,
    pub(super) help: Option<String>,
}

/// The location of a fault: a dotted path, or a span of the text if there is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: At,
    /// What is expected there.
    pub(super) label: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    Path(String),
    Span(Range<usize>),
}

impl Place {
    pub(super) fn span(span: Range<usize>, label: impl Into<String>) -> Self {
        Self { at: At::Span(span), label: label.into() }
    }
}

impl Fault {
    /// A fault described by `title` in one line.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), places: Vec::new(), help: None }
    }

    /// A fault that another crate found at a dotted `path`.
    pub fn message(path: &str, message: String) -> Self {
        let title = if message.contains(path) { message } else { format!("{path}: {message}") };
        Self::new(title).on(path, "")
    }

    /// A value that breaks a rule: `model.n_head = 0 must be at least 1`.
    pub fn value(path: &str, value: impl std::fmt::Display, wanted: &str) -> Self {
        Self::new(format!("{path} = {value} {wanted}")).on(path, wanted)
    }

    /// Puts the caret under the value at a dotted `path`; more calls add more locations.
    pub fn on(mut self, path: &str, label: impl Into<String>) -> Self {
        self.places.push(Place { at: At::Path(path.to_owned()), label: label.into() });
        self
    }

    /// What to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The dotted paths it names.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.places.iter().filter_map(|place| match &place.at {
            At::Path(path) => Some(path.as_str()),
            At::Span(_) => None,
        })
    }

    /// The dotted path of a fault that a single value causes.
    pub(super) fn only_path(&self) -> Option<&str> {
        self.paths().next().filter(|_| self.places.len() == 1)
    }

    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        self.places.extend(place);
        self
    }
}
