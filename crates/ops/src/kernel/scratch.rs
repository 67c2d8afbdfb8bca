//! Reusable buffers: values that a node keeps and workspaces of kernels, from step to step.
//!
//! A fresh vector must be filled with zeros, which for the wide buffers of a step costs a pass over memory each. A
//! [`Scratch`] comes from the pool of released buffers, with arbitrary contents, and goes back when it is dropped. The
//! largest have pages of their own, a head's logits or the whole gradient of a table: the last of them is kept, or given
//! back to the system at once where memory is short ([`giving_back`]).
#![allow(unsafe_code)]

use super::float::Float;
use super::lines::Lines;
use super::parallel::{Rows, for_rows};
use super::pool::Pooled;
use crate::threads::Restore;
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Shorter buffers come from the allocator: they are cheap to clear.
const SHORTEST: usize = 4 * 1024;

/// Longer buffers have their own pages.
pub(super) const LONGEST: usize = 8 << 20;

thread_local! {
    static GIVES_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with pages that go back to the system when their buffer is dropped, if `gives`.
pub(crate) fn giving_back<R>(gives: bool, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&GIVES_BACK, GIVES_BACK.replace(gives));
    f()
}

/// The pages that were released last: clearing new ones takes the system longer than a kernel needs to fill them.
static SPARE: Mutex<Option<Lines>> = Mutex::new(None);

/// Gives the largest buffer that operations keep for the next one, such as a head's logits, back to the system.
pub fn release_pages() {
    drop(swap_spare(None));
}

fn swap_spare(lines: Option<Lines>) -> Option<Lines> {
    std::mem::replace(&mut *SPARE.lock().unwrap_or_else(PoisonError::into_inner), lines)
}

/// Pages with room for `n_bytes`: the spare ones, if they fit, or new ones.
fn pages(n_bytes: usize) -> Lines {
    let fitting = |lines: &Lines| lines.n_bytes() >= n_bytes && lines.n_bytes() / 2 <= n_bytes;
    // Those that don't fit are released first.
    swap_spare(None).filter(fitting).unwrap_or_else(|| Lines::new(n_bytes))
}

/// A buffer of which nothing may be read before it has been written.
pub(crate) struct Scratch<T: Pooled> {
    room: Room<T>,
    len: usize,
}

enum Room<T> {
    Vector(Vec<T>),
    Pages(Lines),
}

/// A buffer of `len` elements with arbitrary values.
pub(crate) fn scratch<T: Pooled>(len: usize) -> Scratch<T> {
    let room = match len {
        0..SHORTEST => Room::Vector(vec![T::default(); len]),
        SHORTEST..=LONGEST => Room::Vector(T::pool().take(len).unwrap_or_else(|| vec![T::default(); len])),
        _ => Room::Pages(pages(len * size_of::<T>())),
    };
    Scratch { room, len }
}

impl<T: Pooled> Scratch<T> {
    /// Resizes it to `len` elements, whose values are arbitrary then.
    pub(crate) fn resize(&mut self, len: usize) {
        if len > self.capacity() {
            // The old one goes back first, so that the two are never held together.
            drop(std::mem::replace(self, Self { room: Room::Vector(Vec::new()), len: 0 }));
            *self = scratch(len);
        }
        self.len = len;
    }

    fn capacity(&self) -> usize {
        match &self.room {
            Room::Vector(buffer) => buffer.len(),
            Room::Pages(lines) => lines.n_bytes() / size_of::<T>(),
        }
    }
}

/// The minimum number of elements that a thread clears.
const GRAIN: usize = 64 * 1024;

/// A buffer of `len` zeros.
pub(crate) fn cleared<T: Pooled>(len: usize) -> Scratch<T> {
    let mut scratch = scratch(len);
    for_rows(len, GRAIN, Rows::single(&mut scratch), |_, part| part.values.fill(T::default()));
    scratch
}

impl<T: Pooled> Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.room {
            Room::Vector(buffer) => &buffer[..self.len],
            // SAFETY: aligned to cache lines, at least `len` long, and numbers with any bits are valid.
            Room::Pages(lines) => unsafe {
                std::slice::from_raw_parts(lines.bytes().as_ptr().cast(), self.len)
            },
        }
    }
}

impl<T: Pooled> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.room {
            Room::Vector(buffer) => &mut buffer[..self.len],
            // SAFETY: as above, and borrowed mutably.
            Room::Pages(lines) => unsafe {
                std::slice::from_raw_parts_mut(lines.bytes_mut().as_mut_ptr().cast(), self.len)
            },
        }
    }
}

impl<T: Pooled> Drop for Scratch<T> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.room, Room::Vector(Vec::new())) {
            Room::Vector(buffer) if buffer.len() >= SHORTEST => T::pool().give_back(buffer),
            Room::Pages(lines) if !GIVES_BACK.get() => drop(swap_spare(Some(lines))),
            _ => {}
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

    /// In one test, because the spare pages are shared.
    #[test]
    fn pages_are_reused_unless_they_go_back() {
        a_buffer_grows_into_pages_of_its_own_and_stays_there();
        // Too many for those that it left.
        let len = 4 * LONGEST;
        let filled = |value: f64| {
            let mut buffer = scratch::<f64>(len);
            let was = buffer[len - 1];
            buffer[len - 1] = value;
            was
        };
        giving_back(true, || filled(1.0));
        assert_eq!(filled(2.0), 0.0, "new pages");
        assert_eq!(giving_back(true, || filled(3.0)), 2.0, "the spare ones");
        assert_eq!(filled(4.0), 0.0, "new pages again");
        release_pages();
        assert_eq!(filled(5.0), 0.0, "new pages after a release");
    }

    fn a_buffer_grows_into_pages_of_its_own_and_stays_there() {
        let mut buffer = scratch::<f64>(LONGEST);
        assert!(matches!(buffer.room, Room::Vector(_)));
        for len in [LONGEST + 1, 3, LONGEST + 1] {
            buffer.resize(len);
            assert!(matches!(buffer.room, Room::Pages(_)) && buffer.len() == len);
            (buffer[0], buffer[len - 1]) = (1.0, 2.0);
            assert_eq!((buffer[0], buffer[len - 1]), (1.0, 2.0));
        }
    }
}
