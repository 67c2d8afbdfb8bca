//! Where text may be cut so that no token reaches across.

/// Where a long text may be cut into pieces that are tokenized one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nowhere: what a tokenizer makes of a piece may depend on all of the text.
    Never,
    /// Before a space between a visible ASCII character and an ASCII letter: no word reaches across.
    Words,
}

impl Cut {
    /// Where the first piece of `text` ends, under [`Cut::Words`].
    pub(crate) fn first(text: &str) -> usize {
        let bytes = text.as_bytes();
        let cut = bytes.array_windows().position(Self::here);
        cut.map_or(text.len(), |at| at + 1)
    }

    /// The last place of `text` where it may be cut.
    pub(super) fn last(self, text: &str) -> Option<usize> {
        match self {
            Self::Never => None,
            Self::Words => text.as_bytes().array_windows().rposition(Self::here).map(|at| at + 1),
        }
    }

    fn here(&[before, space, after]: &[u8; 3]) -> bool {
        space == b' ' && after.is_ascii_alphabetic() && before.is_ascii_graphic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_stand_before_single_spaces_of_words() {
        let text = "The fox,  \"the\" dog\n jumps é x 1 b";
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(Cut::first(rest));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(pieces, ["The", " fox,  \"the\"", " dog\n jumps é x 1", " b"]);
        assert_eq!(Cut::Words.last(text), Some(text.len() - 2));
        assert_eq!(Cut::Never.last(text), None);
    }
}
