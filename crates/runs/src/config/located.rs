//! A config's faults with their spans in the text, for display.

use std::fmt;
use std::ops::Range;

use super::fault::{At, Fault};
use super::source::{Source, Texts};

/// All faults of a config, in the order of the texts. `Display` prints plain lines; a terminal may show more.
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

/// A fault and its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedFault {
    /// What is wrong, in one line.
    pub title: String,
    /// The spans at fault, the main one first; empty for a config built in code.
    pub spans: Vec<FaultSpan>,
    /// What to do about it.
    pub help: Option<String>,
}

/// A span of one of the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSpan {
    /// The index of the text in [`Faults::texts`].
    pub text: usize,
    /// Its byte range.
    pub bytes: Range<usize>,
    /// What is expected there; may be empty.
    pub label: String,
}

impl Faults {
    /// The maximum number of faults reported.
    pub const MOST: usize = 10;

    /// The faults that are reported, and the number of those left out.
    pub fn told(&self) -> (&[LocatedFault], usize) {
        let told = self.faults.len().min(Self::MOST);
        (&self.faults[..told], self.faults.len() - told)
    }

    /// Locates `faults` and sorts them by location.
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

    /// Faults of a config that was built in code.
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
