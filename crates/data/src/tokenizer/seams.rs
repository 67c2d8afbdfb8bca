//! Split points between letters, digits and punctuation in ASCII, which raise the cache's hit rate.

/// Positions inside a piece of text that no word of the splitter crosses.
#[derive(Clone, Debug)]
pub(super) struct Seams {
    /// The class of each ASCII character; there is a seam between two classes, but none next to [`ALONE`].
    classes: [u8; 128],
    /// Whether an added token begins with the character: a piece that contains it is not cut.
    begins: [bool; 128],
}

/// Whitespace, control characters, and punctuation that joins its neighbors.
const ALONE: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const MARK: u8 = 3;

impl Seams {
    /// GPT-2's splitter: runs of letters, of digits, of punctuation; an apostrophe may belong to the letters after
    /// it.
    pub(super) fn byte_level() -> Self {
        Self::new(|c| match c {
            b'\'' => ALONE,
            b'0'..=b'9' => DIGIT,
            c if c.is_ascii_alphabetic() => LETTER,
            c if c.is_ascii_graphic() => MARK,
            _ => ALONE,
        })
    }

    /// Splitters that keep letters, digits and perhaps underscores together, and separate them from punctuation.
    pub(super) fn words() -> Self {
        Self::new(|c| match c {
            b'_' => ALONE,
            c if c.is_ascii_alphanumeric() => LETTER,
            c if c.is_ascii_graphic() => MARK,
            _ => ALONE,
        })
    }

    fn new(class: impl Fn(u8) -> u8) -> Self {
        Self { classes: std::array::from_fn(|c| class(c as u8)), begins: [false; 128] }
    }

    /// The same, except for pieces that may contain one of these tokens.
    pub(super) fn sparing<'a>(mut self, tokens: impl Iterator<Item = &'a str>) -> Self {
        for token in tokens {
            if let Some(begins) =
                token.bytes().next().and_then(|first| self.begins.get_mut(usize::from(first)))
            {
                *begins = true;
            }
        }
        self
    }

    /// Whether a piece may be cut at all.
    pub(super) fn fit(&self, piece: &str) -> bool {
        piece.bytes().all(|c| self.begins.get(usize::from(c)) == Some(&false))
    }

    /// The end of the first part of a piece that may be cut.
    pub(super) fn first(&self, piece: &str) -> usize {
        let class = |c: u8| self.classes.get(usize::from(c)).copied().unwrap_or(ALONE);
        let mut before = ALONE;
        for (at, c) in piece.bytes().enumerate() {
            let here = class(c);
            if before != ALONE && here != ALONE && here != before {
                return at;
            }
            before = here;
        }
        piece.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(seams: &Seams, mut piece: &'a str) -> Vec<&'a str> {
        let mut parts = Vec::new();
        while !piece.is_empty() {
            let (part, rest) = piece.split_at(seams.first(piece));
            parts.push(part);
            piece = rest;
        }
        parts
    }

    #[test]
    fn seams_are_between_character_classes() {
        let seams = Seams::byte_level();
        assert_eq!(parts(&seams, "  self.fox_2('a');"), ["  self", ".", "fox", "_", "2", "('a');"]);
        assert_eq!(parts(&seams, " don't,x"), [" don't", ",", "x"]);
        assert_eq!(parts(&Seams::words(), " fox_2b(a)"), [" fox_2b", "(", "a", ")"]);
    }

    #[test]
    fn pieces_with_added_tokens_or_non_ascii_letters_are_not_cut() {
        let seams = Seams::byte_level().sparing(["<|endoftext|>", "\u{2581}x"].into_iter());
        assert!(seams.fit(" fox.x") && !seams.fit(" a<b") && !seams.fit("\u{fc}ber.x"));
    }
}
