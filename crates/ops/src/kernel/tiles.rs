//! The division of vectors that are multiplied together into tiles.

/// The height of the largest tile.
pub(crate) const TALLEST: usize = 12;

/// How far ahead in the matrix a tile of few vectors prefetches, in bytes; the hardware prefetcher stops at each page.
#[cfg(target_arch = "x86_64")]
pub(crate) const AHEAD: usize = 16 << 10;

/// Vectors next to each other, as a kernel reads them.
#[derive(Default)]
pub(crate) struct Tile {
    pub(crate) words: Vec<u32>,
    /// The index of the first vector.
    pub(crate) first: usize,
    /// The number of vectors.
    pub(crate) height: usize,
}

/// Splits `n` vectors into tiles of 12, and the rest into heights of 8, 4, 2 and 1; the word buffers of `tiles` are
/// reused.
pub(crate) fn cut(tiles: &mut Vec<Tile>, n: usize) {
    let (mut first, mut count) = (0, 0);
    while first < n {
        let height = match n - first {
            TALLEST.. => TALLEST,
            8.. => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        if count == tiles.len() {
            tiles.push(Tile::default());
        }
        (tiles[count].first, tiles[count].height) = (first, height);
        first += height;
        count += 1;
    }
    tiles.truncate(count);
}
