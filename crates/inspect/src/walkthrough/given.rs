//! The inputs of the worked example, and the results that its text states.

/// One example: its inputs, and the results that the text states.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// A name for it.
    pub(super) title: &'static str,
    /// The words read so far.
    pub(super) words: &'static [&'static str],
    /// Each word's embedding, which is also its value vector.
    pub(super) embeddings: &'static [[f64; 2]],
    /// The attention weight of each word, as given.
    pub(super) weights: &'static [f64],
    /// The four words that can come next.
    pub(super) vocabulary: [&'static str; 4],
    /// The row of each in the output projection.
    pub(super) wout: [[f64; 2]; 4],
    /// The index of the true next word in the vocabulary.
    pub(super) target: usize,
    /// The logits that the text states, to three decimals.
    pub(super) stated_logits: [f64; 4],
    /// The probabilities that the text states, to two decimals.
    pub(super) stated_probabilities: [f64; 4],
}

const WOUT: [[f64; 2]; 4] = [[0.5, 0.2], [0.1, 0.6], [0.7, 0.4], [0.2, 0.9]];

/// "jumps" follows "The quick brown fox"; the model says "fox".
pub(super) const FIRST: Given = Given {
    title: "\"The quick brown fox\": what comes next?",
    words: &["The", "quick", "brown", "fox"],
    embeddings: &[[0.1, 0.2], [0.4, 0.1], [0.3, 0.5], [0.8, 0.6]],
    weights: &[0.10, 0.05, 0.10, 0.75],
    vocabulary: ["apple", "run", "fox", "jumps"],
    wout: WOUT,
    target: 3,
    stated_logits: [0.435, 0.381, 0.672, 0.604],
    stated_probabilities: [0.23, 0.22, 0.29, 0.26],
};

/// "fox" follows "The quick brown"; the model says "pizza".
pub(super) const SECOND: Given = Given {
    title: "\"The quick brown\": what comes next?",
    words: &["The", "quick", "brown"],
    embeddings: &[[0.1, 0.2], [0.4, 0.1], [0.3, 0.5]],
    weights: &[0.2, 0.3, 0.5],
    vocabulary: ["apple", "run", "fox", "pizza"],
    wout: WOUT,
    target: 2,
    stated_logits: [0.209, 0.221, 0.331, 0.346],
    stated_probabilities: [0.23, 0.23, 0.26, 0.28],
};
