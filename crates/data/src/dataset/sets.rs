//! Options of opening a dataset, and the sets read from its files.

use std::path::Path;

use super::rows::Rows;
use crate::chat::ChatTemplate;
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// What a dataset needs in addition to its config sections.
#[derive(Clone, Copy)]
pub struct OpenOptions<'a> {
    /// The length of a window, and the maximum number of tokens of a row: `train.max_len`, else `model.context_len`.
    pub context_len: usize,
    /// The config key that sets it, for errors.
    pub len_key: &'static str,
    /// The number of positions of the model if it is not `context_len`: rows of ids are checked against it.
    pub n_positions: Option<usize>,
    /// The seed of shuffling and masking: `train.seed`.
    pub seed: u64,
    /// The size of the vocabulary, if known: synthetic ids need it, rows of ids are checked against it.
    pub vocab_size: Option<usize>,
    /// The number of token types of the model, if known: rows of ids are checked against it.
    pub n_token_types: Option<usize>,
    /// The tokenizer of the initial model, used instead of a new one.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The labels, by number, of the initial classifier; kept if they include those of the corpus.
    pub labels: &'a [String],
    /// The folder of the initial model: its chat template is the default.
    pub folder: Option<&'a Path>,
    /// Whether the texts of conversations are kept, for [`Dataset::shown`](crate::Dataset::shown).
    pub keep_texts: bool,
    /// Whether rows are shuffled anew each epoch, unless `data.shuffle` is false.
    pub shuffle: bool,
    /// Receives progress reports.
    pub progress: &'a dyn Progress,
}

impl OpenOptions<'static> {
    /// Training from scratch without progress reports: no vocabulary, tokenizer or labels, rows shuffled.
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
            folder: None,
            keep_texts: false,
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

/// The two sets as read from the files.
pub(super) struct Sets {
    pub(super) train: Rows,
    pub(super) validation: Option<Rows>,
    pub(super) labels: Vec<String>,
    pub(super) n_labels: usize,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) vocab_size: usize,
    pub(super) warnings: Vec<String>,
    pub(super) template: Option<ChatTemplate>,
}
