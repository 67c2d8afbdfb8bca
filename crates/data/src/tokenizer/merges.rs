//! Trains byte pair encoding: which pairs of symbols to merge, most frequent first.
//!
//! [Sennrich et al. 2015](https://arxiv.org/abs/1508.07909), algorithm 1. Ties go to the pair with the smaller ids,
//! so the same words yield the same merges in any order and on any number of threads. Counts are 64 bits wide.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Two adjacent symbols, by id.
type Pair = (u32, u32);

/// A vocabulary extended by merges.
pub(super) struct Learned {
    /// The tokens, by id.
    pub(super) tokens: Vec<String>,
    /// The merged pairs, in order.
    pub(super) merges: Vec<Pair>,
}

/// Learns merges on `words` (symbols, how often) until there are `vocab_size` tokens or no pair occurs
/// `min_frequency` times. `prefix` marks symbols inside a word (`##` in WordPiece).
pub(super) fn learn(
    tokens: Vec<String>,
    words: Vec<(Vec<u32>, u64)>,
    vocab_size: usize,
    min_frequency: u64,
    prefix: &str,
) -> Learned {
    let mut ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut learned = Learned { tokens, merges: Vec::new() };
    let mut pairs = Pairs::new(words);
    while learned.tokens.len() < vocab_size {
        let Some((pair, count)) = pairs.pop() else { break };
        if count < min_frequency.max(1) {
            break;
        }
        let (left, right) = (&learned.tokens[pair.0 as usize], &learned.tokens[pair.1 as usize]);
        let merged = format!("{left}{}", right.strip_prefix(prefix).unwrap_or(right));
        // Two merges that produce the same token share its id.
        let id = *ids.entry(merged.clone()).or_insert_with(|| {
            learned.tokens.push(merged);
            learned.tokens.len() as u32 - 1
        });
        learned.merges.push(pair);
        pairs.merge(pair, id);
    }
    learned
}

/// The pairs of all words with their counts and positions, updated with each merge.
struct Pairs {
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// Words that contain the pair, or once did.
    places: HashMap<Pair, Vec<u32>>,
    /// Most frequent first; outdated counts are corrected when an entry is popped.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Pairs {
    fn new(words: Vec<(Vec<u32>, u64)>) -> Self {
        let mut counts: HashMap<Pair, u64> = HashMap::new();
        let mut places: HashMap<Pair, Vec<u32>> = HashMap::new();
        for (index, (symbols, count)) in words.iter().enumerate() {
            for pair in symbols.windows(2).map(|pair| (pair[0], pair[1])) {
                *counts.entry(pair).or_default() += count;
                let places = places.entry(pair).or_default();
                if places.last() != Some(&(index as u32)) {
                    places.push(index as u32);
                }
            }
        }
        let queue = counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        Self { words, counts, places, queue }
    }

    fn pop(&mut self) -> Option<(Pair, u64)> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now == count && now > 0 {
                return Some((pair, count));
            }
            if now > 0 && now < count {
                self.queue.push((now, Reverse(pair)));
            }
        }
        None
    }

    fn merge(&mut self, pair: Pair, id: u32) {
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut grown: Vec<Pair> = Vec::new();
        for index in places {
            let (symbols, count) = &mut self.words[index as usize];
            if !symbols.windows(2).any(|two| (two[0], two[1]) == pair) {
                continue;
            }
            for two in symbols.windows(2) {
                if let Some(total) = self.counts.get_mut(&(two[0], two[1])) {
                    *total -= *count;
                }
            }
            replace(symbols, pair, id);
            for two in symbols.windows(2).map(|two| (two[0], two[1])) {
                *self.counts.entry(two).or_default() += *count;
                if two.0 == id || two.1 == id {
                    self.places.entry(two).or_default().push(index);
                    grown.push(two);
                }
            }
        }
        self.counts.remove(&pair);
        grown.sort_unstable();
        grown.dedup();
        for pair in grown {
            self.queue.push((self.counts.get(&pair).copied().unwrap_or(0), Reverse(pair)));
        }
    }
}

/// Replaces each occurrence of `pair`, from the left, by `id`.
fn replace(symbols: &mut Vec<u32>, pair: Pair, id: u32) {
    let mut kept = 0;
    let mut at = 0;
    while at < symbols.len() {
        let is_pair = symbols[at] == pair.0 && symbols.get(at + 1) == Some(&pair.1);
        symbols[kept] = if is_pair { id } else { symbols[at] };
        at += if is_pair { 2 } else { 1 };
        kept += 1;
    }
    symbols.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_merge_by_frequency_then_by_id() {
        // a b c d with "ab" 5 times, "cd" 5 times, "abc" once: (a b) has 6, (c d) 5, then (ab c) 1.
        let tokens: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let words = vec![(vec![0, 1], 5), (vec![2, 3], 5), (vec![0, 1, 2], 1)];
        let learned = learn(tokens.clone(), words.clone(), 100, 1, "");
        assert_eq!(learned.merges, [(0, 1), (2, 3), (4, 2)]);
        assert_eq!(learned.tokens[4..], ["ab", "cd", "abc"]);
        let mut turned = words;
        turned.reverse();
        assert_eq!(learn(tokens, turned, 100, 1, "").merges, learned.merges);
    }

    #[test]
    fn runs_of_one_symbol_merge_from_the_left() {
        let learned = learn(vec!["a".into()], vec![(vec![0; 5], 1)], 3, 1, "");
        // aaaaa → aa aa a; of the pairs (aa, aa) and (aa, a), each once, the second has the smaller ids.
        assert_eq!(learned.tokens, ["a", "aa", "aaa"]);
        assert_eq!(learned.merges, [(0, 0), (1, 0)]);
    }

    #[test]
    fn min_frequency_and_prefix_hold() {
        let tokens: Vec<String> = ["a", "##b"].map(String::from).to_vec();
        let learned = learn(tokens.clone(), vec![(vec![0, 1], 2)], 10, 2, "##");
        assert_eq!(learned.tokens[2..], ["ab"]);
        assert!(learn(tokens, vec![(vec![0, 1], 2)], 10, 3, "##").merges.is_empty());
    }
}
