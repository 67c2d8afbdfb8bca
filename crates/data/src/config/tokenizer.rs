//! The section `[data.tokenizer]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Issue;

/// The kind of tokenizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Words unchanged, punctuation marks as separate tokens; unknown words become `[UNK]`.
    #[default]
    Word,
    /// One id per character.
    Char,
    /// Byte-level byte pair encoding, as GPT-2's: decoding restores every text.
    Bpe,
    /// WordPiece, as BERT's, with `[CLS]` and `[SEP]` around each text.
    Wordpiece,
    /// Any `tokenizer.json`, read from `path`.
    File,
}

impl TokenizerKind {
    /// The kind's name in a config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::Char => "char",
            Self::Bpe => "bpe",
            Self::Wordpiece => "wordpiece",
            Self::File => "file",
        }
    }
}

/// The section `[data.tokenizer]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// The kind.
    pub kind: TokenizerKind,
    /// The maximum size of the vocabulary, including special tokens; unset: all words or characters of the corpus
    /// (`word`, `char`), 8,192 (`bpe`, `wordpiece`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// How often a word, character or merged pair must occur to get a token; unset: once (`word`, `char`), twice
    /// (`bpe`, `wordpiece`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_frequency: Option<u64>,
    /// Whether `wordpiece` lowercases and strips accents, as BERT's uncased models do; unset: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowercase: Option<bool>,
    /// The `tokenizer.json` (or a folder that holds one), for `kind = "file"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The token that ends a document; unset: the kind's own, or the one named by the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos: Option<String>,
    /// More special tokens, after the kind's own; each is one token in a text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub special_tokens: Vec<String>,
    /// The maximum number of megabytes to train a tokenizer on, sampled evenly over the corpus; unset: 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_mb: Option<u64>,
}

impl TokenizerConfig {
    /// The default of `sample_mb`.
    pub const SAMPLE_MB: u64 = 256;

    /// The share of a corpus of `n_bytes` that a tokenizer is trained on, 1 or more for all of it; and a notice if it
    /// is less.
    pub(crate) fn share_of(&self, n_bytes: u64) -> (f64, Option<String>) {
        let sample = self.sample_mb.unwrap_or(Self::SAMPLE_MB) << 20;
        let told = (n_bytes > sample).then(|| {
            format!(
                "the tokenizer is trained on {} of {} MB, sampled evenly (data.tokenizer.sample_mb)",
                sample >> 20,
                n_bytes >> 20
            )
        });
        (sample as f64 / n_bytes.max(1) as f64, told)
    }

    /// All issues that the values alone show.
    pub fn issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        let mut fault = |key: &str, message: String| {
            issues.push(Issue::new(&format!("data.tokenizer.{key}"), message));
        };
        let trained = self.kind != TokenizerKind::File;
        match (&self.path, trained) {
            (None, false) => fault("path", "kind = \"file\" needs the path of a tokenizer.json".into()),
            (Some(_), true) => {
                fault("path", "only kind = \"file\" reads a path; remove one of the two".into())
            }
            _ => {}
        }
        if !trained {
            let settings = [
                ("vocab_size", self.vocab_size.is_some()),
                ("min_frequency", self.min_frequency.is_some()),
                ("sample_mb", self.sample_mb.is_some()),
                ("special_tokens", !self.special_tokens.is_empty()),
            ];
            for (key, given) in settings {
                if given {
                    fault(key, "a tokenizer read from a file is not trained; remove this key".into());
                }
            }
        }
        if self.lowercase.is_some() && self.kind != TokenizerKind::Wordpiece {
            fault("lowercase", "only kind = \"wordpiece\" has this setting".into());
        }
        if let (Some(size), true) = (self.vocab_size, trained) {
            let least = match self.kind {
                TokenizerKind::Bpe => 256 + 3,
                _ => 6,
            } + self.special_tokens.len();
            if size < least || u32::try_from(size).is_err() {
                fault("vocab_size", format!("{size} is out of range: {least} or more are needed here"));
            }
        }
        if self.sample_mb == Some(0) {
            fault("sample_mb", "0 leaves nothing to train on; set 1 or more".into());
        }
        if self.eos.as_ref().is_some_and(|token| token.trim().is_empty()) {
            fault("eos", "the token is empty; set one, or remove the key".into());
        }
        if self.special_tokens.iter().any(|token| token.trim().is_empty()) {
            fault("special_tokens", "a special token is empty".into());
        }
        issues
    }
}
