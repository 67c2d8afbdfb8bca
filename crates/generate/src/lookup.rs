//! Guesses the next tokens from the text's own repetitions (prompt lookup decoding).

/// The longest suffix of a text that is searched for.
const LONGEST: usize = 4;
/// The shortest: a single token recurs by chance.
const SHORTEST: usize = 2;
/// The initial number of guessed tokens.
const FIRST: usize = 4;
/// The maximum number of guessed tokens.
const MOST: usize = 12;

/// How many tokens of one text are guessed: more after right guesses, fewer after wrong ones.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    length: usize,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { length: FIRST }
    }
}

impl Lookup {
    /// The tokens after the latest earlier occurrence of the text's suffix, the longest suffix first
    /// ([Saxena 2023](https://github.com/apoorvumang/prompt-lookup-decoding)).
    pub(crate) fn guess(&self, text: &[u32]) -> Vec<u32> {
        for n in (SHORTEST..=LONGEST).rev() {
            let Some(start) = text.len().checked_sub(n) else { continue };
            let end = &text[start..];
            let found = text[..text.len() - 1].windows(n).rposition(|window| window == end);
            if let Some(at) = found {
                let rest = &text[at + n..];
                return rest[..rest.len().min(self.length)].to_vec();
            }
        }
        Vec::new()
    }

    /// Adjusts the number of guesses to how many were right.
    pub(crate) fn learn(&mut self, n_right: usize, n_guess: usize) {
        self.length = match n_right {
            _ if n_right == n_guess => (2 * self.length).min(MOST),
            0 => (self.length / 2).max(1),
            _ => n_right + 1,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use candle_core::{DType, Device};
    use vulpes_data::Tokenizer;
    use vulpes_model::config::Family;
    use vulpes_model::folder::{Extra, load_decoder, save};
    use vulpes_model::{Head, ModelSection, PackedType, Transformer};

    use super::*;
    use crate::{Request, SampleConfig, Source, generate};

    /// Guesses change when a token is read, never which token is chosen.
    #[test]
    fn lookup_does_not_change_the_text() {
        let section = ModelSection {
            family: Some(Family::Llama),
            n_layer: Some(2),
            n_head: Some(2),
            d_model: Some(32),
            context_len: Some(40),
            ..ModelSection::default()
        };
        let tokenizer = Tokenizer::numbers(17).unwrap();
        for window in [None, Some(6)] {
            let config = ModelSection { window, ..section.clone() }.resolve(17, Head::NextToken);
            let model = Transformer::init(&config, 3, DType::F32, &Device::Cpu).unwrap();
            let model = model.without_gradients().unwrap();
            let dir = tempfile::tempdir().unwrap();
            save(dir.path(), &model, &Extra::default()).unwrap();
            let loaded = load_decoder(dir.path(), PackedType::Q8_0, 2).unwrap();
            let packed = RefCell::new(loaded.decoder.unwrap());
            for source in [Source::from(&model), Source::from(&packed)] {
                for temp in [0.0, 0.7] {
                    let texts = |lookup| {
                        let prompts = vec![vec![1, 2, 3, 1, 2], vec![5], vec![1, 2, 3, 1, 2]];
                        let config = SampleConfig { n: 60, temp, ..SampleConfig::default() };
                        let (seed, first, trace) = (7, 0, false);
                        let request =
                            Request { prompts, config, seed, first, end_ids: vec![16], trace, lookup };
                        let samples = generate(source, &tokenizer, &request, &mut |_, _| true).unwrap();
                        let ids = |sample: &crate::Sample| {
                            sample.tokens.iter().map(|choice| choice.id).collect::<Vec<_>>()
                        };
                        samples.iter().map(ids).collect::<Vec<_>>()
                    };
                    assert_eq!(texts(true), texts(false), "window {window:?}, temperature {temp}");
                }
            }
        }
    }

    #[test]
    fn tokens_after_an_earlier_occurrence_are_guessed() {
        let lookup = Lookup::default();
        assert_eq!(lookup.guess(&[1, 2, 3, 4, 5, 6, 9, 1, 2]), [3, 4, 5, 6]);
        // The longer suffix takes precedence over the later one.
        assert_eq!(lookup.guess(&[7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2])[..2], [3, 8]);
        assert_eq!(lookup.guess(&[5, 5, 5]), [5]);
        assert!(lookup.guess(&[1, 2, 3]).is_empty() && lookup.guess(&[]).is_empty());
    }

    #[test]
    fn number_of_guesses_grows_with_success() {
        let mut lookup = Lookup::default();
        lookup.learn(4, 4);
        assert_eq!(lookup.length, 8);
        lookup.learn(8, 8);
        assert_eq!(lookup.length, MOST);
        lookup.learn(2, 12);
        assert_eq!(lookup.length, 3);
        lookup.learn(0, 3);
        lookup.learn(0, 1);
        assert_eq!(lookup.length, 1);
    }
}
