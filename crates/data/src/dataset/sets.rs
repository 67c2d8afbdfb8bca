//! What a dataset is opened with, and what comes from its files.

use super::rows::Rows;
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// What a dataset needs to know beside its own config sections.
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// The length of a window, and the most tokens of a row: `train.max_len`, else `model.context_len`.
    pub context_len: usize,
    /// The config's key that decides it, for errors.
    pub len_key: &'static str,
    /// How many positions the model has, where that is not `context_len`: rows of ids are checked against it.
    pub n_positions: Option<usize>,
    /// The seed of shuffling and masking: `train.seed`.
    pub seed: u64,
    /// The size of the vocabulary, where it is given: made-up ids need it, rows of ids are checked against it.
    pub vocab_size: Option<usize>,
    /// The number of token types that the model tells apart, where it is known: rows of ids are checked against it.
    pub n_token_types: Option<usize>,
    /// The tokenizer of the model that training starts from; used in place of a new one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The labels, by number, of the classifier that training starts from; kept where those of the corpus are among
    /// them.
    pub labels: &'a [String],
    /// Whether the rows come in a new random order each epoch, if `data.shuffle` has nothing against it.
    pub shuffle: bool,
    /// Hears how far the preparation has come.
    pub progress: &'a dyn Progress,
}

impl OpenOptions<'static> {
    /// A run from scratch that nobody watches: no vocabulary, tokenizer or labels from elsewhere, rows shuffled.
    pub fn new(context_len: usize, seed: u64) -> Self {
        Self {
            context_len,
            len_key: "model.context_len",
            n_positions: None,
            seed,
            vocab_size: None,
            n_token_types: None,
            tokenizer: None,
            labels: &[],
            shuffle: true,
            progress: &(),
        }
    }
}

impl std::fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { context_len, seed, vocab_size, .. } = self;
        write!(f, "OpenOptions {{ context_len: {context_len}, seed: {seed}, vocab_size: {vocab_size:?} }}")
    }
}

/// The two sets as they come from the files.
pub(super) struct Sets {
    pub(super) train: Rows,
    pub(super) validation: Option<Rows>,
    pub(super) labels: Vec<String>,
    pub(super) n_labels: usize,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) vocab_size: usize,
    pub(super) warnings: Vec<String>,
}
