//! The key of a stream: a seed, a purpose and any number of parts, hashed to 256 bits.

use crate::Stream;

/// One part of a [`Key`]: a string or an integer.
///
/// Strings and integers never collide: each is hashed with a tag and its length.
pub trait Part {
    /// Feeds the part to the hash in a form that no other part has.
    fn feed(&self, hasher: &mut blake3::Hasher);
}

impl Part for str {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"s").update(&(self.len() as u64).to_le_bytes()).update(self.as_bytes());
    }
}

impl Part for u64 {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"u").update(&self.to_le_bytes());
    }
}

/// The key of one stream of random numbers: `Key::new(seed, "init").with("blocks.0.attention.query")`.
///
/// # Examples
/// ```
/// use vulpes_random::Key;
/// let init = Key::new(7, "init");
/// assert_eq!(init.with("a").stream().next_u64(), init.with("a").stream().next_u64());
/// assert_ne!(init.with("a").stream().next_u64(), init.with("b").stream().next_u64());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a purpose under a run's seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        seed.feed(&mut hasher);
        purpose.feed(&mut hasher);
        Self(*hasher.finalize().as_bytes())
    }

    /// The key one level deeper: the same purpose for this `part`.
    pub fn with<P: Part + ?Sized>(&self, part: &P) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        part.feed(&mut hasher);
        Self(*hasher.finalize().as_bytes())
    }

    /// The stream of this key.
    pub fn stream(&self) -> Stream {
        Stream::new(self.0, 0)
    }

    /// The stream of row `row`: cheaper than a separate key, for the many rows of one batch.
    pub fn row(&self, row: u64) -> Stream {
        Stream::new(self.0, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_parts_do_not_collide() {
        let key = Key::new(1, "p");
        assert_ne!(key.with("ab").with("c"), key.with("a").with("bc"));
        assert_ne!(key.with(&1u64), key.with("\u{1}\0\0\0\0\0\0\0"));
        assert_ne!(Key::new(1, "p"), Key::new(2, "p"));
        assert_ne!(key.row(0).next_u64(), key.row(1).next_u64());
        assert_eq!(key.row(0).next_u64(), key.stream().next_u64());
    }

    /// The streams are part of the file format: a run resumed by a later version must draw the same numbers.
    #[test]
    fn streams_never_change() {
        let mut stream = Key::new(42, "init").with("embedding.weight").stream();
        let drawn: Vec<u64> = (0..3).map(|_| stream.next_u64()).collect();
        assert_eq!(drawn, GOLDEN);
    }

    const GOLDEN: [u64; 3] =
        [17_189_801_343_599_719_156, 4_812_799_787_063_651_133, 13_066_632_512_699_552_133];
}
