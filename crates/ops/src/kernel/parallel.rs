//! Threads inside a kernel: ranges of rows shared out, never the terms of one sum.
#![allow(unsafe_code)]

use crate::threads::{kernel_threads, with_kernel_threads};
use std::marker::PhantomData;
use std::ops::Range;

/// Runs `f` over `0..n` in contiguous ranges, one a thread, with boundaries at multiples of `grain`.
///
/// What `f` does for one index must not depend on the range that it comes in.
pub(crate) fn for_ranges(n: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    let grains = n.div_ceil(grain.max(1));
    let threads = kernel_threads().min(grains);
    if threads <= 1 {
        if n > 0 {
            f(0..n);
        }
        return;
    }
    let bound = |part: usize| (part * grains / threads * grain).min(n);
    rayon::scope(|scope| {
        for part in 1..threads {
            let f = &f;
            scope.spawn(move |_| f(bound(part)..bound(part + 1)));
        }
        // What this thread's own part calls must not start threads again.
        with_kernel_threads(1, || f(0..bound(1)));
    });
}

/// Elements of a block of [`for_blocks`].
const BLOCK: usize = 16 * 1024;

/// A run of elements of one of several slices.
pub(crate) struct Block {
    /// Which slice.
    pub(crate) slice: usize,
    /// The number of the block, counted through all slices.
    pub(crate) number: usize,
    /// Its elements in the slice.
    pub(crate) range: Range<usize>,
}

/// The blocks of a slice of `len` elements.
pub(crate) fn n_blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// Runs `f` over the blocks of all slices of these lengths, shared out among the threads in one go: many small
/// tensors cost one start of the threads together.
///
/// Where a block begins and ends depends on the lengths alone, so sums that are made block by block don't depend on
/// the threads.
pub(crate) fn for_blocks(lens: &[usize], f: impl Fn(Block) + Sync) {
    let mut first = Vec::with_capacity(lens.len());
    let mut total = 0;
    for &len in lens {
        first.push(total);
        total += n_blocks(len);
    }
    // So few elements are done before a second thread has woken up.
    let grain = if lens.iter().sum::<usize>() < 4 * BLOCK { total } else { 1 };
    for_ranges(total, grain, |numbers| {
        for number in numbers {
            // The last slice that starts here or before; those without elements start where the next one does.
            let slice = first.partition_point(|&first| first <= number) - 1;
            let start = (number - first[slice]) * BLOCK;
            f(Block { slice, number, range: start..lens[slice].min(start + BLOCK) });
        }
    });
}

/// A mutable slice that threads cut into disjoint parts themselves.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `part` only, whose caller promises that no two of them overlap.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above; a `Shared` is a mutable borrow of a slice.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Where element `at` lies, for writing strided parts.
    pub(crate) fn at(&self, at: usize) -> *mut T {
        assert!(at <= self.len, "element {at} of {}", self.len);
        // SAFETY: inside the slice, or one past its end, by the assertion.
        unsafe { self.start.add(at) }
    }

    /// The same slice without its first `at` elements.
    pub(crate) fn from(&self, at: usize) -> Shared<'_, T> {
        Shared { start: self.at(at), len: self.len - at, slice: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No two parts that live at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of {range:?} of {}", self.len);
        // SAFETY: inside the slice by the assertion; disjoint from other parts by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn blocks_cover_every_element_of_every_slice_once() {
        let lens = [0, 5, BLOCK, 0, 0, 3 * BLOCK + 1, 1, 0];
        for threads in [1, 2, 7] {
            let seen = Mutex::new(Vec::new());
            with_kernel_threads(threads, || {
                for_blocks(&lens, |block| {
                    seen.lock().unwrap().push((block.number, block.slice, block.range))
                });
            });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_by_key(|(number, ..)| *number);
            assert_eq!(seen.len(), lens.iter().map(|&len| n_blocks(len)).sum::<usize>());
            let mut covered = vec![0; lens.len()];
            for (at, (number, slice, range)) in seen.into_iter().enumerate() {
                assert_eq!((number, range.start), (at, covered[slice]));
                covered[slice] = range.end;
            }
            assert_eq!(covered, lens);
        }
    }
}
