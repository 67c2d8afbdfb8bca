//! A config's faults with the spans of the text that they lie in, for who draws them.

use std::fmt;
use std::ops::Range;

use super::fault::{At, Fault};
use super::source::{Source, Texts};

/// All that is wrong with a config, in the order of the texts. It prints as plain lines; a terminal may draw more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The faults; at least one.
    pub faults: Vec<LocatedFault>,
    /// The texts that the config came from: the file, then each `--set`.
    pub texts: Vec<FaultyText>,
}

/// A text that a config came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyText {
    /// The file's path, or `--set`.
    pub path: String,
    /// The text itself.
    pub text: String,
}

/// One fault and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedFault {
    /// What is wrong, in one line.
    pub title: String,
    /// The spans at fault, the first of which is to blame; none for a config that was made in code.
    pub spans: Vec<FaultSpan>,
    /// What to do about it.
    pub help: Option<String>,
}

/// A part of one of the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSpan {
    /// The number of the text in [`Faults::texts`].
    pub text: usize,
    /// Its bytes.
    pub bytes: Range<usize>,
    /// What is wanted there; may be empty.
    pub label: String,
}

impl Faults {
    /// How many faults are told at most.
    pub const MOST: usize = 10;

    /// The faults that are told, and how many more there are.
    pub fn told(&self) -> (&[LocatedFault], usize) {
        let told = self.faults.len().min(Self::MOST);
        (&self.faults[..told], self.faults.len() - told)
    }

    /// Finds where `faults` lie, and sorts them by it.
    pub(super) fn locate(faults: &[Fault], texts: &Texts, source: &Source<'_>) -> Self {
        let locate = |fault: &Fault| {
            let span = |at: &At| match at {
                At::Path(path) => source.span(path),
                At::Span(span) => Some(span.clone()),
            };
            let spans = fault.places.iter().filter_map(|place| {
                let (text, bytes) = texts.locate(&span(&place.at)?)?;
                Some(FaultSpan { text, bytes, label: place.label.clone() })
            });
            LocatedFault { title: fault.title.clone(), spans: spans.collect(), help: fault.help.clone() }
        };
        let mut located: Vec<LocatedFault> = faults.iter().map(locate).collect();
        located.sort_by_key(|fault| {
            fault.spans.first().map_or((usize::MAX, 0), |span| (span.text, span.bytes.start))
        });
        let texts =
            texts.iter().map(|text| FaultyText { path: text.path.clone(), text: text.as_str().into() });
        Self { faults: located, texts: texts.collect() }
    }

    /// Faults of a config that came from no text.
    pub(super) fn without_text(faults: Vec<Fault>) -> Self {
        let bare = |fault: Fault| LocatedFault { title: fault.title, spans: Vec::new(), help: fault.help };
        Self { faults: faults.into_iter().map(bare).collect(), texts: Vec::new() }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (told, n_more) = self.told();
        for (i, fault) in told.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "error: {}", fault.title)?;
            let first = fault.spans.first().and_then(|span| Some((self.texts.get(span.text)?, span)));
            if let Some((FaultyText { path, text }, span)) = first {
                let before = text.get(..span.bytes.start).unwrap_or_default();
                let line = 1 + before.matches('\n').count();
                let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
                write!(f, "\n --> {path}:{line}:{column}")?;
            }
            if let Some(help) = &fault.help {
                write!(f, "\nhelp: {help}")?;
            }
        }
        if n_more > 0 {
            write!(f, "\nand {n_more} more faults")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
