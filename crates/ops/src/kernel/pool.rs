//! A free list of used buffers, for [`super::scratch`].

use half::bf16;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The maximum number of elements in a pool; the oldest buffers are dropped.
const MOST: usize = 64 << 20;

/// A type of number whose used buffers are kept; any bits are a valid number.
pub(crate) trait Pooled: Copy + Default + Send + 'static {
    /// The free list of used buffers.
    fn pool() -> &'static BufferPool<Self>;
}

/// `TYPE, …`: each with a pool of its own.
macro_rules! pooled {
    ($($number:ty),*) => { $(
        impl Pooled for $number {
            fn pool() -> &'static BufferPool<Self> {
                static POOL: BufferPool<$number> = BufferPool::new();
                &POOL
            }
        }
    )* };
}

pooled!(f32, f64, bf16);

/// The used buffers of one type of number, the latest at the back.
pub(crate) struct BufferPool<T>(Mutex<VecDeque<Vec<T>>>);

impl<T> BufferPool<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// The latest buffer that is at least `len` long, and not much longer.
    pub(super) fn take(&self, len: usize) -> Option<Vec<T>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().rposition(|buffer| buffer.len() >= len && buffer.len() - len <= len / 4)?;
        held.remove(at)
    }

    /// Keeps a buffer for later; the oldest are dropped to make room.
    pub(super) fn give_back(&self, buffer: Vec<T>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push_back(buffer);
        let mut elements: usize = held.iter().map(Vec::len).sum();
        while elements > MOST {
            let Some(oldest) = held.pop_front() else { break };
            elements -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::LONGEST;
    use super::*;

    #[test]
    fn a_pool_respects_its_limits() {
        let pool = BufferPool::<f32>::new();
        for _ in 0..10 {
            pool.give_back(vec![0.0; LONGEST]);
        }
        assert_eq!(pool.0.lock().unwrap().len(), MOST / LONGEST);
    }
}
