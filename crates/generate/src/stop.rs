//! Stop strings: also found if split across tokens, and never shown in part.

/// Searches for stop strings in a text that arrives in pieces.
#[derive(Clone, Debug)]
pub(crate) struct StopTexts {
    stops: Vec<String>,
    /// The end of the text so far that may be the beginning of a stop string.
    held: String,
}

/// The result of adding a piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Text that is certain not to belong to a stop string.
    pub(crate) text: String,
    /// The stop string that was found; it and everything after it are left out.
    pub(crate) stopped_by: Option<String>,
}

impl StopTexts {
    pub(crate) fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new() }
    }

    /// Takes the next piece of the text.
    pub(crate) fn push(&mut self, piece: &str) -> Shown {
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            let stop = stop.clone();
            self.held.truncate(at);
            return Shown { text: std::mem::take(&mut self.held), stopped_by: Some(stop) };
        }
        let rest = self.held.split_off(self.held.len() - self.possible_beginning());
        Shown { text: std::mem::replace(&mut self.held, rest), stopped_by: None }
    }

    /// The text that was held back but belongs to no stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The length in bytes of the longest suffix of the held text that begins a stop string.
    fn possible_beginning(&self) -> usize {
        let ends = self.held.char_indices().map(|(at, _)| &self.held[at..]);
        let mut possible = ends.filter(|end| self.stops.iter().any(|stop| stop.starts_with(end)));
        possible.next().map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>, String) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut texts = StopTexts::new(&stops);
        let mut all = Vec::new();
        for piece in pieces {
            let shown = texts.push(piece);
            all.push(shown.text);
            if let Some(stop) = shown.stopped_by {
                return (all, Some(stop), texts.finish());
            }
        }
        (all, None, texts.finish())
    }

    #[test]
    fn a_stop_string_is_found_across_pieces_and_left_out() {
        let (texts, stop, rest) = shown(&["lazy dog"], &["over the la", "zy", " do", "g."]);
        assert_eq!(texts, ["over the ", "", "", ""]);
        assert_eq!((stop.as_deref(), rest.as_str()), (Some("lazy dog"), ""));
    }

    #[test]
    fn text_that_resembles_a_stop_string_is_shown_later() {
        let (texts, stop, rest) = shown(&["\n\n", "éé!"], &["a\n", "b", "éé", "é", "?"]);
        assert_eq!(texts.concat() + &rest, "a\nbééé?");
        assert_eq!(texts, ["a", "\nb", "", "é", "éé?"]);
        assert_eq!(stop, None);
    }

    #[test]
    fn the_earliest_of_several_stop_strings_ends_the_text() {
        let (texts, stop, _) = shown(&["dog", "the"], &["over the dog"]);
        assert_eq!((texts.concat().as_str(), stop.as_deref()), ("over ", Some("the")));
        let (_, none, rest) = shown(&["dog"], &["do"]);
        assert_eq!((none, rest.as_str()), (None, "do"));
    }
}
