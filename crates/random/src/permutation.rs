//! A keyed shuffle that is computed, not stored: any index of any length in constant time and memory.

use crate::Key;

const ROUNDS: usize = 8;

/// A keyed permutation of `0..n`.
///
/// A Feistel network ([Luby and Rackoff 1988](https://doi.org/10.1137/0217022)) permutes the range up to the smallest
/// power of four that is at least `n`; numbers outside `0..n` are mapped again until they fall inside (cycle walking,
/// [Black and Rogaway 2002](https://doi.org/10.1007/3-540-45760-7_9)), at most four rounds on average.
///
/// # Examples
/// ```
/// use vulpes_random::{Key, Permutation};
/// let order = Permutation::new(&Key::new(1, "shuffle"), 5);
/// let mut all: Vec<u64> = (0..5).map(|i| order.at(i)).collect();
/// all.sort();
/// assert_eq!(all, [0, 1, 2, 3, 4]);
/// ```
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    round_keys: [u64; ROUNDS],
}

impl Permutation {
    /// The permutation of `0..n` under `key`.
    pub fn new(key: &Key, n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut stream = key.stream();
        Self { n, half_bits: bits.div_ceil(2).max(1), round_keys: std::array::from_fn(|_| stream.next_u64()) }
    }

    /// The length of the permutation.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there is nothing to permute.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The number at `index`; `index` itself if it is outside `0..n`.
    pub fn at(&self, index: u64) -> u64 {
        if index >= self.n {
            return index;
        }
        let mut x = self.feistel(index);
        while x >= self.n {
            x = self.feistel(x);
        }
        x
    }

    fn feistel(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// The finalizer of SplitMix64 ([Steele, Lea and Flood 2014](https://doi.org/10.1145/2660193.2660195)).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_occurs_once() {
        for n in [0u64, 1, 2, 3, 4, 5, 16, 17, 1000, 4096, 4097] {
            let order = Permutation::new(&Key::new(5, "shuffle").with(&n), n);
            let mut all: Vec<u64> = (0..n).map(|i| order.at(i)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>(), "n = {n}");
        }
    }

    #[test]
    fn numbers_are_spread_evenly() {
        // Over many keys, each number of 0..6 is at each index about equally often.
        let n = 6u64;
        let mut counts = [[0u32; 6]; 6];
        for key in 0..12_000u64 {
            let order = Permutation::new(&Key::new(key, "shuffle"), n);
            (0..n).for_each(|i| counts[i as usize][order.at(i) as usize] += 1);
        }
        assert!(counts.iter().flatten().all(|&count| count.abs_diff(2000) < 220), "{counts:?}");
    }

    #[test]
    fn the_largest_ranges_work() {
        let n = (1u64 << 62) + 12_345;
        let order = Permutation::new(&Key::new(1, "shuffle"), n);
        assert!((0..100).all(|i| order.at(i * 1_000_003) < n));
    }
}
