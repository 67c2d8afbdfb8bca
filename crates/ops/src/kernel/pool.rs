//! A free list of used buffers, for [`super::scratch`].

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// A pool holds no more elements than this, the latest.
const MOST: usize = 64 << 20;

/// The buffers of one number type that wait to be used again, the latest at the back.
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

    /// Keeps a buffer for later; the oldest make room for it.
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
    use super::*;

    #[test]
    fn a_pool_holds_so_much_and_no_more() {
        let pool = BufferPool::<f32>::new();
        for _ in 0..5 {
            pool.give_back(vec![0.0; MOST / 3]);
        }
        assert_eq!(pool.0.lock().unwrap().len(), 3);
    }
}
