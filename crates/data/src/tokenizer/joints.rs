//! Finds where a long text may be cut by encoding both sides, for tokenizers without known cuts.
//!
//! The tokens of a section around the position must be those of its two halves joined. Text beyond the section has no
//! effect with any splitter that looks at a few characters, nor with merges that end at whitespace.

use super::Tokenizer;

/// How many bytes on each side of a position are encoded.
const ASIDE: usize = 128;
/// How many positions are tried, from the end of a text backwards.
const TRIED: usize = 64;
/// The longest part of a text that is tokenized at once if it can be cut.
const PART: usize = 1 << 18;

/// A position at which a text may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joint {
    /// Where the first part ends.
    pub(crate) at: usize,
    /// How many bytes are left out before the second part: a space, for tokenizers that prepend one to each text.
    pub(crate) skip: usize,
}

impl Tokenizer {
    /// The last position at which a text may be cut, as far as its tokens show.
    pub(crate) fn last_joint(&self, text: &str) -> Option<Joint> {
        let end = text.floor_char_boundary(text.len().saturating_sub(ASIDE));
        let places = text[..end].char_indices().rev().map(|(at, _)| at).take_while(|&at| at > 0);
        places.filter(|&at| is_candidate(text, at)).take(TRIED).find_map(|at| self.joint(text, at))
    }

    /// The parts of a text that are tokenized separately, without the bytes left out between them.
    pub(super) fn parts<'a>(&self, mut text: &'a str) -> Vec<&'a str> {
        let mut parts = Vec::new();
        while text.len() > PART {
            let mut len = PART;
            let joint = loop {
                match self.last_joint(&text[..text.floor_char_boundary(len)]) {
                    None if len < text.len() => len *= 2,
                    found => break found,
                }
            };
            let Some(Joint { at, skip }) = joint else { break };
            parts.push(&text[..at]);
            text = &text[at + skip..];
        }
        parts.push(text);
        parts
    }

    fn joint(&self, text: &str, at: usize) -> Option<Joint> {
        let start = text.ceil_char_boundary(at.saturating_sub(ASIDE));
        let end = text.floor_char_boundary((at + ASIDE).min(text.len()));
        let ids = |from: usize, to: usize| self.encode(&text[from..to]).ok();
        let (whole, before) = (ids(start, end)?, ids(start, at)?);
        let after = whole.strip_prefix(before.as_slice())?;
        let skips = if text[at..].starts_with(' ') { &[0, 1][..] } else { &[0] };
        skips
            .iter()
            .find(|&&skip| ids(at + skip, end).as_deref() == Some(after))
            .map(|&skip| Joint { at, skip })
    }
}

/// Whether a word is likely to end before a position: before a single space, or after a newline or `。` without a
/// space.
fn is_candidate(text: &str, at: usize) -> bool {
    let (before, mut after) = (text[..at].chars().next_back(), text[at..].chars());
    match (before, after.next()) {
        (Some(before), Some(' ')) => {
            !before.is_whitespace()
                && !before.is_control()
                && after.next().is_some_and(|c| !c.is_whitespace())
        }
        (Some('\n' | '。'), Some(c)) => !c.is_whitespace(),
        _ => false,
    }
}
