//! Trains a tokenizer: counts of words or characters, then a `tokenizer.json` in canonical order.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer as Inner,
};

use super::assemble::assemble;
use super::{Tokenizer, merges};
use crate::config::{TokenizerConfig, TokenizerKind};
use crate::corpus::Cut;
use crate::error::{Error, Result};

/// How often each word (or character, for `char`) occurs: the only input of training.
///
/// Parts of a corpus can be counted on any number of threads and merged in any order.
pub(crate) struct Counts {
    config: TokenizerConfig,
    specials: Vec<String>,
    /// The normalizer and the word splitter of the future tokenizer.
    frame: Option<Arc<Inner>>,
    /// How often each whitespace-separated piece occurs: most repeat, and are split into words only once.
    pieces: HashMap<Box<str>, u64>,
    counts: HashMap<String, u64>,
    /// Where a text may be cut into pieces.
    cut: Cut,
}

/// How many pieces are collected before they are split into words.
const N_PIECES: usize = 1 << 18;

impl Counts {
    pub(crate) fn new(config: &TokenizerConfig) -> Result<Self> {
        let specials = specials(config)?;
        let frame = match config.kind {
            TokenizerKind::Char => None,
            kind => Some(
                assemble(config, &specials, json!({"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}))
                    .map_err(|error| Error::tokenizer(kind.word(), error))?,
            ),
        };
        let spaced = specials.iter().any(|token| token.contains(char::is_whitespace));
        Ok(Self {
            config: config.clone(),
            specials,
            frame: frame.map(Arc::new),
            pieces: HashMap::new(),
            counts: HashMap::new(),
            cut: if spaced { Cut::Never } else { Cut::Blanks },
        })
    }

    /// Counts a text; special tokens in it are not words.
    pub(crate) fn add(&mut self, mut text: &str) {
        while !text.is_empty() {
            let (piece, rest) = text.split_at(self.cut.first(text));
            match self.pieces.get_mut(piece) {
                Some(total) => *total += 1,
                None => drop(self.pieces.insert(piece.into(), 1)),
            }
            text = rest;
        }
        if self.pieces.len() > N_PIECES {
            self.split();
        }
    }

    /// Splits the collected pieces into words.
    fn split(&mut self) {
        for (piece, n) in std::mem::take(&mut self.pieces) {
            let mut text = &*piece;
            loop {
                let found =
                    self.specials.iter().filter_map(|token| Some((text.find(token.as_str())?, token.len())));
                let Some((at, len)) = found.min_by_key(|&(at, len)| (at, std::cmp::Reverse(len))) else {
                    break;
                };
                self.words(&text[..at], n);
                text = &text[at + len..];
            }
            self.words(text, n);
        }
    }

    fn words(&mut self, text: &str, n: u64) {
        let Some(frame) = &self.frame else {
            let mut buffer = [0; 4];
            return text.chars().for_each(|c| count(&mut self.counts, c.encode_utf8(&mut buffer), n));
        };
        let mut normalized = NormalizedString::from(text);
        let normal =
            frame.get_normalizer().map_or(Ok(()), |normalizer| normalizer.normalize(&mut normalized));
        let mut words = PreTokenizedString::from(normalized);
        let split = frame.get_pre_tokenizer().map_or(Ok(()), |splitter| splitter.pre_tokenize(&mut words));
        // The splitters of these kinds can't fail; a text that one refused would merely not be counted.
        if normal.is_ok() && split.is_ok() {
            for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
                count(&mut self.counts, word, n);
            }
        }
    }

    /// Empty counts for another part of the corpus.
    pub(crate) fn empty(&self) -> Self {
        Self {
            config: self.config.clone(),
            specials: self.specials.clone(),
            frame: self.frame.clone(),
            pieces: HashMap::new(),
            counts: HashMap::new(),
            cut: self.cut,
        }
    }

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.counts.is_empty()
    }

    /// Adds the counts of another part of the corpus.
    pub(crate) fn merge(&mut self, other: Self) {
        for (piece, n) in other.pieces {
            *self.pieces.entry(piece).or_default() += n;
        }
        for (word, n) in other.counts {
            count(&mut self.counts, &word, n);
        }
        if self.pieces.len() > N_PIECES {
            self.split();
        }
    }

    /// Trains the tokenizer.
    pub(crate) fn finish(mut self) -> Result<Tokenizer> {
        self.split();
        let config = &self.config;
        let subwords = matches!(config.kind, TokenizerKind::Bpe | TokenizerKind::Wordpiece);
        let min_frequency = config.min_frequency.unwrap_or(if subwords { 2 } else { 1 });
        let vocab_size = config.vocab_size.unwrap_or(if subwords { 8192 } else { usize::MAX });
        let mut counts: Vec<(String, u64)> = self.counts.into_iter().collect();
        // Most frequent first; ties in ascending order.
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut tokens = self.specials.clone();
        let mut pairs = Vec::new();
        match config.kind {
            TokenizerKind::Word | TokenizerKind::Char => {
                counts.retain(|(_, n)| *n >= min_frequency);
                counts.truncate(vocab_size.saturating_sub(tokens.len()));
                if config.kind == TokenizerKind::Char {
                    counts.sort_unstable();
                }
                tokens.extend(
                    counts.into_iter().map(|(word, _)| word).filter(|word| !self.specials.contains(word)),
                );
            }
            TokenizerKind::Bpe => {
                let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
                alphabet.sort_unstable();
                let words = spell(&mut tokens, alphabet.into_iter().collect(), counts, "");
                let learned = merges::learn(tokens, words, vocab_size, min_frequency, "");
                (tokens, pairs) = (learned.tokens, learned.merges);
            }
            TokenizerKind::Wordpiece => {
                let alphabet = counts.iter().flat_map(|(word, _)| word.chars()).collect();
                let words = spell(&mut tokens, alphabet, counts, "##");
                tokens = merges::learn(tokens, words, vocab_size, min_frequency, "##").tokens;
            }
            TokenizerKind::File => return Err(not_trained()),
        }
        let vocab: serde_json::Map<String, Value> =
            tokens.iter().zip(0u32..).map(|(token, id)| (token.clone(), id.into())).collect();
        let spelled: Vec<[&str; 2]> =
            pairs.iter().map(|&(a, b)| [tokens[a as usize].as_str(), tokens[b as usize].as_str()]).collect();
        let model = match config.kind {
            TokenizerKind::Word => json!({"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}),
            TokenizerKind::Char => json!({
                "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": [],
            }),
            TokenizerKind::Bpe => json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": spelled,
            }),
            TokenizerKind::Wordpiece | TokenizerKind::File => json!({
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab,
            }),
        };
        let name = config.kind.word();
        let inner = assemble(config, &self.specials, model).map_err(|error| Error::tokenizer(name, error))?;
        Tokenizer::new(inner, name)?.with_config(config)
    }
}

impl Tokenizer {
    /// The tokenizer of a config with `kind = "file"`.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_file`].
    pub(crate) fn of(config: &TokenizerConfig) -> Result<Self> {
        Self::from_file(config.path.as_deref().unwrap_or_default())?.with_config(config)
    }

    /// Applies the token names of the config.
    pub(crate) fn with_config(self, config: &TokenizerConfig) -> Result<Self> {
        match &config.eos {
            Some(eos) => self.with_eos(eos),
            None => Ok(self),
        }
    }
}

fn count(counts: &mut HashMap<String, u64>, word: &str, n: u64) {
    match counts.get_mut(word) {
        Some(total) => *total += n,
        None => drop(counts.insert(word.to_owned(), n)),
    }
}

/// Adds the letters to the tokens, and spells each word with them; letters inside a word get the prefix.
fn spell(
    tokens: &mut Vec<String>,
    alphabet: BTreeSet<char>,
    counts: Vec<(String, u64)>,
    prefix: &str,
) -> Vec<(Vec<u32>, u64)> {
    let mut first: HashMap<char, u32> = HashMap::new();
    let mut inside: HashMap<char, u32> = HashMap::new();
    for &letter in &alphabet {
        first.insert(letter, tokens.len() as u32);
        tokens.push(letter.into());
    }
    if !prefix.is_empty() {
        let used: BTreeSet<char> = counts.iter().flat_map(|(word, _)| word.chars().skip(1)).collect();
        for letter in used {
            inside.insert(letter, tokens.len() as u32);
            tokens.push(format!("{prefix}{letter}"));
        }
    }
    let rest = if prefix.is_empty() { &first } else { &inside };
    let symbols = |word: &str| {
        let ids = word.chars().enumerate();
        ids.filter_map(|(place, letter)| {
            if place == 0 { first.get(&letter) } else { rest.get(&letter) }.copied()
        })
        .collect()
    };
    counts.iter().map(|(word, n)| (symbols(word), *n)).collect()
}

/// The special tokens of a kind, in the order of their ids.
fn specials(config: &TokenizerConfig) -> Result<Vec<String>> {
    let own = |default: &str| config.eos.clone().unwrap_or_else(|| default.into());
    let mut specials: Vec<String> = match config.kind {
        TokenizerKind::Word | TokenizerKind::Char => {
            vec!["[UNK]".into(), "[PAD]".into(), "[MASK]".into(), own("[EOS]")]
        }
        TokenizerKind::Bpe => vec![own("<|endoftext|>"), "[PAD]".into(), "[MASK]".into()],
        TokenizerKind::Wordpiece => {
            let mut bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from).to_vec();
            bert.extend(config.eos.clone());
            bert
        }
        TokenizerKind::File => return Err(not_trained()),
    };
    specials.extend(config.special_tokens.iter().cloned());
    let mut seen = BTreeSet::new();
    specials.retain(|token| seen.insert(token.clone()));
    Ok(specials)
}

fn not_trained() -> Error {
    Error::config("data.tokenizer.kind", "\"file\" reads a tokenizer and can't train one")
}
