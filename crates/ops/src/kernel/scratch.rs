//! Reusable buffers: values that a node keeps and workspaces of kernels, from step to step.
//!
//! A fresh vector must be filled with zeros, which for the wide buffers of a step costs a pass over memory each. A
//! [`Scratch`] comes from the pool of released buffers, with arbitrary contents, and goes back when it is dropped.

use super::float::Float;
use super::pool::Pooled;
use std::ops::{Deref, DerefMut};

/// Shorter buffers come from the allocator: they are cheap to clear.
const SHORTEST: usize = 4 * 1024;

/// A buffer of which nothing may be read before it has been written.
#[derive(Debug)]
pub(crate) struct Scratch<T: Pooled> {
    buffer: Vec<T>,
    len: usize,
}

/// A buffer of `len` elements with arbitrary values.
pub(crate) fn scratch<T: Pooled>(len: usize) -> Scratch<T> {
    let used = if len >= SHORTEST { T::pool().take(len) } else { None };
    Scratch { buffer: used.unwrap_or_else(|| vec![T::default(); len]), len }
}

impl<T: Pooled> Scratch<T> {
    /// Resizes it to `len` elements, whose values are arbitrary then.
    pub(crate) fn resize(&mut self, len: usize) {
        if len > self.buffer.len() {
            // The old one goes back first, so that the two are never held together.
            drop(std::mem::replace(self, Self { buffer: Vec::new(), len: 0 }));
            *self = scratch(len);
        }
        self.len = len;
    }
}

/// A buffer of `len` zeros.
pub(crate) fn cleared<T: Pooled>(len: usize) -> Scratch<T> {
    let mut scratch = scratch(len);
    scratch.fill(T::default());
    scratch
}

impl<T: Pooled> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.buffer[..self.len]
    }
}

impl<T: Pooled> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[..self.len]
    }
}

impl<T: Pooled> Drop for Scratch<T> {
    fn drop(&mut self) {
        if self.buffer.len() >= SHORTEST {
            T::pool().give_back(std::mem::take(&mut self.buffer));
        }
    }
}

/// Borrowed values, or values in an owned buffer.
pub(crate) enum Values<'a, T: Float> {
    Borrowed(&'a [T]),
    Owned(Scratch<T>),
}

impl<T: Float> Deref for Values<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::Borrowed(values) => values,
            Self::Owned(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_if_they_fit() {
        // A length that no other test uses.
        let len = 123_457;
        let mut first = scratch::<f64>(len);
        first.fill(3.0);
        let place = first.as_ptr();
        drop(first);
        let again = scratch::<f64>(len - 1000);
        assert_eq!((again.as_ptr(), again.len(), again[7]), (place, len - 1000, 3.0));
        drop(again);
        assert_ne!(scratch::<f64>(len / 2).as_ptr(), place, "half a buffer would be wasted");
        assert!(cleared::<f64>(len).iter().all(|&x| x == 0.0));
        assert_eq!(scratch::<f32>(0).len(), 0);
    }
}
