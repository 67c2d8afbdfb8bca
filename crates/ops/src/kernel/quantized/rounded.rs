//! Vectors rounded to 8 bits in blocks, grouped in tiles as the kernels read them.
#![allow(unsafe_code)]

use super::format::{BLOCK, Quant};
use crate::kernel::simd::multiversion;
use crate::kernel::team::{SendPtr, Team};
use crate::kernel::tiles::{Tile, cut};

/// The number of four-value words in a block.
pub(super) const WORDS: usize = BLOCK / 4;

/// Vectors in blocks of 32: `q = round(x · (127 / max |x|))`, ties to even, and the scale `max |x| / 127`.
///
/// A tile of h vectors stores for each block 8 words of h times four values, h scales, and h corrections for the offset
/// of the matrix's values (their negated contribution).
#[derive(Default)]
pub(crate) struct Rounded {
    /// Together they contain every vector once.
    pub(super) tiles: Vec<Tile>,
    pub(super) n_block: usize,
}

/// Blocks that a thread rounds at a time at least, a microsecond's work: less costs more to share out than to do.
const SHARE: usize = 128;

/// The number of 32-bit words in a block of one vector.
pub(super) const PER_BLOCK: usize = WORDS + 2;

impl Rounded {
    /// Rounds the vectors of `x`, each of length `n_in`, a multiple of 32, for matrices of one format.
    pub(crate) fn fill(&mut self, quant: Quant, x: &[f32], n_in: usize, team: &mut Team) {
        assert!(
            n_in.is_multiple_of(BLOCK) && n_in > 0 && x.len().is_multiple_of(n_in),
            "rounded: complete blocks"
        );
        self.n_block = n_in / BLOCK;
        cut(&mut self.tiles, x.len() / n_in);
        let n_block = self.n_block;
        for Tile { words, height, .. } in &mut self.tiles {
            words.resize(*height * n_block * PER_BLOCK, 0);
        }
        let tallest = self.tiles.first().map_or(1, |tile| tile.height);
        let at_once = (SHARE / tallest).max(1);
        let per_tile = n_block.div_ceil(at_once);
        let starts: Vec<SendPtr<u32>> =
            self.tiles.iter_mut().map(|tile| SendPtr(tile.words.as_mut_ptr())).collect();
        let tiles = &self.tiles;
        team.share(tiles.len() * per_tile, &|units| {
            for unit in units {
                let (Tile { first, height, .. }, start) = (&tiles[unit / per_tile], &starts[unit / per_tile]);
                let from = unit % per_tile * at_once;
                let blocks = from..(from + at_once).min(n_block);
                let block_words = PER_BLOCK * height;
                // SAFETY: these blocks lie inside the tile's words, which are borrowed for the whole call; each unit has
                // its own.
                let words = unsafe {
                    std::slice::from_raw_parts_mut(
                        start.get().add(blocks.start * block_words),
                        blocks.len() * block_words,
                    )
                };
                for lane in 0..*height {
                    let x = &x[(first + lane) * n_in..][blocks.start * BLOCK..blocks.end * BLOCK];
                    round::<f32>(x, -quant.offset(), words, lane, *height);
                }
            }
        });
    }
}

multiversion! {
    /// Rounds a vector into its lane of a tile.
    fn round = round_body(x: &[f32], offset: i32, tile: &mut [u32], lane: usize, height: usize);
}

#[inline(always)]
fn round_body<T: crate::kernel::Float, const FMA: bool>(
    x: &[f32],
    offset: i32,
    tile: &mut [u32],
    lane: usize,
    height: usize,
) {
    let blocks = x.as_chunks::<BLOCK>().0.iter();
    for (x, block) in blocks.zip(tile.chunks_exact_mut(PER_BLOCK * height)) {
        // As bits, magnitudes have the order of the values, with infinities and NaN at the end, which are kept.
        let mut sizes = [0u32; 16];
        for (i, x) in x.iter().enumerate() {
            let size = x.to_bits() & 0x7fff_ffff;
            sizes[i % 16] = sizes[i % 16].max(size);
        }
        let largest = f32::from_bits(sizes.into_iter().fold(0, u32::max));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut whole = [0i32; BLOCK];
        for (whole, x) in whole.iter_mut().zip(x) {
            // Adding 1.5 · 2^23 rounds to an integer, ties to even, which is then in the lowest bits.
            const ROUND: f32 = 12_582_912.0;
            let bits = (x * inverse + ROUND).to_bits().cast_signed() - ROUND.to_bits().cast_signed();
            // A non-finite value has no integer; its scale carries it.
            *whole = bits.clamp(-127, 127);
        }
        let sum: i32 = whole.iter().sum();
        for (group, four) in whole.as_chunks::<4>().0.iter().enumerate() {
            block[group * height + lane] = u32::from_le_bytes(four.map(|whole| whole as u8));
        }
        block[WORDS * height + lane] = (largest / 127.0).to_bits();
        block[(WORDS + 1) * height + lane] = (offset * sum).cast_unsigned();
    }
}
