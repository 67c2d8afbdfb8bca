//! Memory in large pages, aligned to cache lines: for weights, and for the largest buffers.
#![allow(unsafe_code)]

use memmap2::MmapMut;
use std::ops::Range;
use std::sync::Arc;

/// One allocation into which many matrices are packed, so that reading them all at every token touches few large pages.
pub struct Arena {
    memory: Arc<Memory>,
    used: usize,
}

/// Pages from the system, initially zero.
struct Memory {
    start: *mut u8,
    /// Keeps the pages alive; never accessed.
    _map: MmapMut,
}

// SAFETY: the bytes behind the pointer are accessed only through [`Lines`], whose ranges don't overlap.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// Complete cache lines in large pages, owned exclusively.
pub(crate) struct Lines {
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl Arena {
    /// An arena of this many bytes.
    pub fn new(n_bytes: usize) -> Self {
        Self { memory: Arc::new(Memory::new(n_bytes)), used: 0 }
    }

    /// `n_bytes` zeros, rounded up to complete lines; separately allocated if the arena is full.
    pub(crate) fn lines(&mut self, n_bytes: usize) -> Lines {
        let range = self.used..self.used + n_bytes.next_multiple_of(Lines::LINE);
        if range.end > self.memory._map.len() {
            return Lines::new(n_bytes);
        }
        self.used = range.end;
        Lines { memory: Arc::clone(&self.memory), range }
    }
}

impl Memory {
    fn new(n_bytes: usize) -> Self {
        let n_bytes = n_bytes.max(Lines::LINE);
        let Ok(mut map) = MmapMut::map_anon(n_bytes) else {
            std::alloc::handle_alloc_error(
                std::alloc::Layout::from_size_align(n_bytes, Lines::LINE)
                    .unwrap_or(std::alloc::Layout::new::<u8>()),
            )
        };
        // Without large pages everything works, only slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Self { start: map.as_mut_ptr(), _map: map }
    }
}

impl Lines {
    /// The size of a cache line in bytes.
    pub(crate) const LINE: usize = 64;

    /// `n_bytes` zeros, rounded up to complete lines, in pages of their own.
    pub(crate) fn new(n_bytes: usize) -> Self {
        let range = 0..n_bytes.next_multiple_of(Self::LINE);
        Self { memory: Arc::new(Memory::new(range.len())), range }
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.range.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is inside the pages, which live as long as this; nothing else writes it.
        unsafe { std::slice::from_raw_parts(self.memory.start.add(self.range.start), self.range.len()) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; nothing else reads it.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start.add(self.range.start), self.range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_overlap_and_outlive_their_arena() {
        let mut arena = Arena::new(200);
        let mut pieces: Vec<Lines> = [1, 64, 100, 64].into_iter().map(|n| arena.lines(n)).collect();
        drop(arena);
        for (number, piece) in pieces.iter_mut().enumerate() {
            assert!(
                piece.bytes().iter().all(|&byte| byte == 0)
                    && piece.bytes().as_ptr().cast::<u64>().is_aligned()
            );
            piece.bytes_mut().fill(number as u8 + 1);
        }
        let lens: Vec<usize> = pieces.iter().map(Lines::n_bytes).collect();
        assert_eq!(lens, [64, 64, 128, 64]);
        for (number, piece) in pieces.iter().enumerate() {
            assert!(piece.bytes().iter().all(|&byte| byte == number as u8 + 1));
        }
    }
}
