//! A stream of random numbers under one key: ChaCha8, with the distributions that the framework uses.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A ChaCha8 stream ([Bernstein 2008](https://cr.yp.to/chacha/chacha-20080128.pdf)), portable bit for bit.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(key: [u8; 32], row: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(row);
        Self(rng)
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A uniform value in `[0, 1)` with 24 random bits, all that a float32 can represent.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// A uniform value in `[0, 1)` with 53 random bits, all that a float64 can represent.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A value from N(0, 1) by the Box–Muller transform: `sqrt(-2 ln(1 - u1)) cos(2π u2)`.
    ///
    /// Logarithm and cosine are those of the crate `libm`: the systems' own differ in their last bits.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform_f64())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform_f64())
    }

    /// Moves a fresh stream to its state after `n` calls of [`Stream::normal`].
    pub fn skip_normals(&mut self, n: u64) {
        // A normal value takes two of 64 bits.
        self.seek(4 * n);
    }

    /// An integer in `0..n`, each equally likely; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // Numbers of the last, incomplete multiple of `n` would favor the small ones: they are drawn again.
        let last_round = u64::MAX - (u64::MAX % n + 1) % n;
        loop {
            let draw = self.next_u64();
            if draw <= last_round {
                return draw % n;
            }
        }
    }

    /// Fills `words` with random bits, 32 each: the same words as from as many calls of [`Stream::next_u32`].
    pub fn fill_u32(&mut self, words: &mut [u32]) {
        words.iter_mut().for_each(|word| *word = self.0.next_u32());
    }

    /// Moves to the 32-bit word of index `word` in the stream.
    pub fn seek(&mut self, word: u64) {
        self.0.set_word_pos(u128::from(word));
    }
}

#[cfg(test)]
mod tests {
    use crate::Key;

    #[test]
    fn skipping_normals_equals_drawing_them() {
        for n in [0, 1, 2, 7, 64] {
            let (mut drawn, mut skipped) = (Key::new(5, "skip").stream(), Key::new(5, "skip").stream());
            for _ in 0..n {
                drawn.normal();
            }
            skipped.skip_normals(n);
            assert_eq!(drawn.normal(), skipped.normal(), "after {n}");
        }
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut stream = Key::new(3, "moments").stream();
        let n = 200_000;
        let uniform: Vec<f64> = (0..n).map(|_| f64::from(stream.uniform())).collect();
        let normal: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let variance = |x: &[f64]| mean(&x.iter().map(|v| v * v).collect::<Vec<_>>()) - mean(x).powi(2);
        assert!((mean(&uniform) - 0.5).abs() < 0.003 && (variance(&uniform) - 1.0 / 12.0).abs() < 0.001);
        assert!(mean(&normal).abs() < 0.01 && (variance(&normal) - 1.0).abs() < 0.015);
        assert!(uniform.iter().all(|u| (0.0..1.0).contains(u)));
    }

    #[test]
    fn below_covers_its_range_evenly() {
        let mut stream = Key::new(3, "below").stream();
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[stream.below(7) as usize] += 1);
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 400), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn seek_and_fill_agree_with_single_draws() {
        let key = Key::new(9, "seek");
        let mut words = [0u32; 40];
        key.stream().fill_u32(&mut words);
        for at in [0u64, 1, 15, 16, 17, 39] {
            let mut stream = key.stream();
            stream.seek(at);
            assert_eq!(stream.next_u32(), words[at as usize]);
        }
    }
}
