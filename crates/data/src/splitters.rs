//! How byte-level tokenizers split a text into words, by llama.cpp's names (`llama-vocab.cpp`).

use serde_json::{Value, json};

/// Word pattern of Llama 3, and of GPT-4 before it.
pub(crate) const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Word pattern of Qwen 2: digits are split one by one.
pub(crate) const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A way to split a text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splitter {
    /// llama.cpp's name, used when writing.
    pub name: &'static str,
    /// Other names for the same split.
    pub aliases: &'static [&'static str],
    /// The word pattern; if `None`, GPT-2's.
    pub pattern: Option<&'static str>,
    /// Whether each digit is split off.
    pub digits: bool,
    /// Whether a word that is itself a token is used without merging.
    pub whole_words_first: bool,
}

/// All supported splitters.
pub static SPLITTERS: &[Splitter] = &[
    Splitter {
        name: "gpt-2",
        aliases: &["phi-2", "mpt", "olmo", "jais", "roberta-bpe", "jina-es", "jina-de"],
        pattern: None,
        digits: false,
        whole_words_first: false,
    },
    Splitter {
        name: "smollm",
        aliases: &["starcoder", "refact", "command-r", "codeshell", "exaone"],
        pattern: None,
        digits: true,
        whole_words_first: false,
    },
    Splitter {
        name: "llama-bpe",
        aliases: &["llama3", "llama-v3"],
        pattern: Some(LLAMA_3),
        digits: false,
        whole_words_first: true,
    },
    Splitter {
        name: "dbrx",
        aliases: &["smaug-bpe"],
        pattern: Some(LLAMA_3),
        digits: false,
        whole_words_first: false,
    },
    Splitter {
        name: "qwen2",
        aliases: &["deepseek-r1-qwen"],
        pattern: Some(QWEN_2),
        digits: false,
        whole_words_first: false,
    },
];

impl Splitter {
    /// Finds a splitter by its name or an alias.
    pub fn named(name: &str) -> Option<&'static Self> {
        SPLITTERS.iter().find(|one| one.name == name || one.aliases.contains(&name))
    }

    /// The `pre_tokenizer` of a `tokenizer.json` for this split.
    pub fn to_json(self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let first = match (self.pattern, self.digits) {
            (Some(pattern), _) => {
                json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
            }
            (None, true) => json!({"type": "Digits", "individual_digits": true}),
            (None, false) => return bytes(true),
        };
        json!({"type": "Sequence", "pretokenizers": [first, bytes(self.pattern.is_none())]})
    }
}
