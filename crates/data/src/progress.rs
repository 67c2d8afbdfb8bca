//! Progress reports of long preparations; the program shows them.

/// A stage of the preparation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the corpus to know whether it is in the cache.
    Digest,
    /// Counting words to train a tokenizer.
    TrainTokenizer,
    /// Tokenizing text.
    Tokenize,
    /// Waiting for another process that prepares the same corpus.
    Wait,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Digest => "reading the corpus",
            Self::TrainTokenizer => "training the tokenizer",
            Self::Tokenize => "tokenizing",
            Self::Wait => "waiting for another process that prepares this corpus",
        })
    }
}

/// Receives the progress of a stage: first with 0 bytes done, last with all. A wait reports its beginning only.
pub trait Progress: Sync {
    /// `done` of `total` bytes of the corpus have passed this stage.
    fn report(&self, stage: Stage, done: u64, total: u64);
}

/// Ignores all reports.
impl Progress for () {
    fn report(&self, _: Stage, _: u64, _: u64) {}
}
