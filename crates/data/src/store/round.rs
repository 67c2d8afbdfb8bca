//! The documents that are encoded together: their text in one piece of memory, so that short ones cost little.

use std::ops::Range;

/// How many bytes of text one thread takes at once.
const GROUP: usize = 1 << 17;

/// Documents on their way to the encoders.
#[derive(Default)]
pub(super) struct Round {
    text: String,
    pub(super) jobs: Vec<Job>,
}

/// A document, or a part of one; its texts are ranges of the round's text.
pub(super) struct Job {
    pub(super) text: Range<usize>,
    pub(super) pair: Option<Range<usize>>,
    pub(super) label: Option<Range<usize>>,
    /// The number of its file.
    pub(super) source: usize,
    pub(super) line: u64,
    /// Whether the document begins here, and whether it ends here.
    pub(super) first: bool,
    pub(super) last: bool,
    /// How many bytes of the file have been read up to its end.
    pub(super) read: u64,
    /// Whether it goes to the validation set.
    pub(super) apart: bool,
}

impl Round {
    /// How many bytes of text it holds.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn text(&self, range: &Range<usize>) -> &str {
        &self.text[range.clone()]
    }

    /// Adds a text; its range.
    pub(super) fn keep(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// The jobs in groups of about the same size, one for a thread at a time.
    pub(super) fn groups(&self) -> Vec<&[Job]> {
        let mut groups = Vec::new();
        let mut rest = self.jobs.as_slice();
        while let Some(first) = rest.first() {
            let end = first.text.start + GROUP;
            let n = rest.partition_point(|job| job.text.start < end);
            let (group, after) = rest.split_at(n.max(1));
            groups.push(group);
            rest = after;
        }
        groups
    }
}
