//! How far a long preparation has come: the library tells, the program shows.

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the corpus to know whether it is in the cache.
    Digest,
    /// Counting words to train a tokenizer.
    TrainTokenizer,
    /// Turning text into tokens.
    Tokenize,
    /// Another process prepares the same corpus, and this one waits for it.
    Wait,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Digest => "reading the corpus",
            Self::TrainTokenizer => "training the tokenizer",
            Self::Tokenize => "tokenizing",
            Self::Wait => "waiting for another process, which prepares this corpus",
        })
    }
}

/// Hears how far a stage has come: first with 0 bytes done, last with all; of a wait only that it begins.
pub trait Progress: Sync {
    /// `done` of `total` bytes of the corpus are through this stage.
    fn report(&self, stage: Stage, done: u64, total: u64);
}

/// Hears nothing.
impl Progress for () {
    fn report(&self, _: Stage, _: u64, _: u64) {}
}
