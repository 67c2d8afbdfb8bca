//! The merges of SentencePiece's BPE, which a GGUF file implies by the scores of its pieces.

use std::collections::HashMap;

/// Returns the merges of a vocabulary of scored pieces: every two pieces that join to a piece, by descending score of
/// that piece, as transformers derives them from a `tokenizer.model`.
pub fn merges_of<'a>(pieces: &[(&'a str, f64)]) -> Vec<(&'a str, &'a str)> {
    let places: HashMap<&str, usize> = pieces.iter().enumerate().map(|(at, (text, _))| (*text, at)).collect();
    let mut merges: Vec<(&str, &str, f64, usize)> = Vec::new();
    for (piece, score) in pieces {
        let mut own: Vec<(usize, usize, usize)> = Vec::new();
        for (n, (at, _)) in piece.char_indices().enumerate().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(left), Some(right)) = (places.get(left), places.get(right)) {
                own.push((*left, *right, n));
            }
        }
        own.sort_unstable();
        merges.extend(own.iter().map(|(left, right, n)| (pieces[*left].0, pieces[*right].0, *score, *n)));
    }
    merges.sort_by(|a, b| b.2.total_cmp(&a.2).then(b.3.cmp(&a.3)));
    merges.into_iter().map(|(left, right, ..)| (left, right)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_are_ordered_by_score() {
        let pieces = [("▁", -9.0), ("a", -8.0), ("b", -7.0), ("▁ab", -1.0), ("ab", -0.5), ("▁a", -2.0)];
        assert_eq!(merges_of(&pieces), [("a", "b"), ("▁a", "b"), ("▁", "ab"), ("▁", "a")]);
    }
}
