//! Where text may be cut so that no token crosses the cut.

/// Where a long text may be cut into pieces that are tokenized separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere: the tokens of a piece may depend on all of the text.
    Never,
    /// Before a space between a visible character and an ASCII letter, for tokenizers that prepend a space to a text
    /// without one.
    Words,
    /// Before whitespace: a token may begin with it, but none has it in the middle.
    Blanks,
}

impl Cut {
    /// Where the first piece of `text` ends.
    pub(crate) fn first(self, text: &str) -> usize {
        let bytes = text.as_bytes();
        let is_cut = |&at: &usize| self.here(text, at);
        match self {
            Self::Never => text.len(),
            Self::Words | Self::Blanks => (1..bytes.len()).find(is_cut).unwrap_or(text.len()),
        }
    }

    /// The last position of `text` at which it may be cut.
    pub(super) fn last(self, text: &str) -> Option<usize> {
        (1..text.len()).rev().find(|&at| self.here(text, at))
    }

    fn here(self, text: &str, at: usize) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Never => false,
            Self::Words => {
                bytes[at] == b' '
                    && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
                    && visible(text, at)
            }
            Self::Blanks => matches!(bytes[at], b' ' | b'\n' | b'\t' | b'\r') && visible(text, at),
        }
    }
}

/// Whether the character before `at` is neither whitespace nor a control character, which some tokenizers treat as
/// such.
fn visible(text: &str, at: usize) -> bool {
    match text.as_bytes()[at - 1] {
        byte if byte.is_ascii() => byte.is_ascii_graphic(),
        _ => text[..at].chars().next_back().is_some_and(|c| !c.is_whitespace() && !c.is_control()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(cut: Cut, mut rest: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cut.first(rest));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    #[test]
    fn cuts_are_before_whitespace() {
        let text = "The fox,  \"the\" dog\n jumps é x\u{3000} 1 b";
        assert_eq!(
            pieces(Cut::Words, text),
            ["The", " fox,  \"the\"", " dog\n jumps é", " x\u{3000} 1", " b"]
        );
        assert_eq!(Cut::Words.last(text), Some(text.len() - 2));
        assert_eq!(
            pieces(Cut::Blanks, text),
            ["The", " fox,", "  \"the\"", " dog", "\n jumps", " é", " x\u{3000} 1", " b"]
        );
        assert_eq!(pieces(Cut::Never, text), [text]);
        assert_eq!(Cut::Never.last(text), None);
    }
}
