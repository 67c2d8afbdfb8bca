//! Threads inside a kernel: they divide ranges of rows, never the terms of one sum.
#![allow(unsafe_code)]

use super::team;
use crate::threads::kernel_threads;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `f` over `0..n` in contiguous ranges, one per thread, with boundaries at multiples of `grain`.
///
/// The effect of `f` on one index must not depend on the range that contains it.
pub(crate) fn for_ranges(n: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    for_rows(n, grain, (), |range, ()| f(range));
}

/// Buffers that can be split between two rows, so that each thread gets its own part.
pub(crate) trait Split: Send + Sized {
    /// The first `rows` rows, and the others.
    fn split(self, rows: usize) -> (Self, Self);
}

/// A buffer of rows with `width` elements each.
pub(crate) struct Rows<'a, T> {
    pub(crate) values: &'a mut [T],
    width: usize,
}

impl<'a, T> Rows<'a, T> {
    pub(crate) fn new(values: &'a mut [T], width: usize) -> Self {
        Self { values, width }
    }

    /// A buffer in which each element is a row.
    pub(crate) fn single(values: &'a mut [T]) -> Self {
        Self::new(values, 1)
    }
}

impl<T: Send> Split for Rows<'_, T> {
    fn split(self, rows: usize) -> (Self, Self) {
        let (first, rest) = self.values.split_at_mut(rows * self.width);
        (Self::new(first, self.width), Self::new(rest, self.width))
    }
}

impl<S: Split> Split for Option<S> {
    fn split(self, rows: usize) -> (Self, Self) {
        match self {
            Some(buffer) => {
                let (first, rest) = buffer.split(rows);
                (Some(first), Some(rest))
            }
            None => (None, None),
        }
    }
}

impl<A: Split, B: Split> Split for (A, B) {
    fn split(self, rows: usize) -> (Self, Self) {
        let ((a, rest_a), (b, rest_b)) = (self.0.split(rows), self.1.split(rows));
        ((a, b), (rest_a, rest_b))
    }
}

impl<A: Split, B: Split, C: Split> Split for (A, B, C) {
    fn split(self, rows: usize) -> (Self, Self) {
        let ((a, rest_a), (b, rest_b), (c, rest_c)) =
            (self.0.split(rows), self.1.split(rows), self.2.split(rows));
        ((a, b, c), (rest_a, rest_b, rest_c))
    }
}

/// As [`for_ranges`] over the first `n` rows of `buffers`, each range with its own part of them.
pub(crate) fn for_rows<S: Split>(n: usize, grain: usize, buffers: S, f: impl Fn(Range<usize>, S) + Sync) {
    let (buffers, _) = buffers.split(n);
    let parts = bounds(n, grain);
    if parts.len() <= 1 {
        if n > 0 {
            f(0..n, buffers);
        }
        return;
    }
    let mut jobs = Vec::with_capacity(parts.len());
    let mut rest = buffers;
    for range in parts {
        let (part, others) = rest.split(range.len());
        rest = others;
        jobs.push(Some((range, part)));
    }
    team::each(&mut jobs, &|job| {
        if let Some((range, part)) = job.take() {
            f(range, part);
        }
    });
}

/// Runs `f` for each of `0..n`, each on the next free thread, with the buffers that `room` made for that thread: for
/// jobs of unequal size.
pub(crate) fn for_jobs<R>(n: usize, room: impl Fn() -> R + Sync, f: impl Fn(&mut R, usize) + Sync) {
    let next = AtomicUsize::new(0);
    for_ranges(kernel_threads().min(n), 1, |_| {
        let mut room = room();
        loop {
            let job = next.fetch_add(1, Ordering::Relaxed);
            if job >= n {
                return;
            }
            f(&mut room, job);
        }
    });
}

/// The ranges into which [`for_ranges`] splits `0..n`: one per thread, with boundaries at multiples of `grain`.
fn bounds(n: usize, grain: usize) -> Vec<Range<usize>> {
    let grains = n.div_ceil(grain.max(1));
    let threads = kernel_threads().min(grains).max(1);
    let bound = |part: usize| (part * grains / threads * grain).min(n);
    (0..threads).map(|part| bound(part)..if part + 1 == threads { n } else { bound(part + 1) }).collect()
}

/// The number of elements in a block of [`for_blocks`].
pub(crate) const BLOCK: usize = 16 * 1024;

/// A range of elements of one of several slices.
pub(crate) struct Block {
    /// The index of the slice.
    pub(crate) slice: usize,
    /// The range in the slice.
    pub(crate) range: Range<usize>,
}

/// The blocks of a slice of `len` elements.
pub(crate) fn n_blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// Runs `f` over the blocks of all slices of these lengths, each with its part of the slice's buffers, and returns the
/// results in the order of the blocks. All are divided among the threads at once: many small tensors cost a single
/// start of the threads.
///
/// The block boundaries depend only on the lengths, so sums by blocks don't depend on the number of threads.
pub(crate) fn for_blocks<S: Split, R: Send + Default>(
    lens: &[usize],
    buffers: impl IntoIterator<Item = S>,
    f: impl Fn(Block, S) -> R + Sync,
) -> Vec<R> {
    let mut jobs = Vec::with_capacity(lens.iter().map(|&len| n_blocks(len)).sum());
    for ((slice, &len), mut rest) in lens.iter().enumerate().zip(buffers) {
        for start in (0..len).step_by(BLOCK) {
            let range = start..len.min(start + BLOCK);
            let (part, others) = rest.split(range.len());
            rest = others;
            jobs.push((Some((Block { slice, range }, part)), R::default()));
        }
    }
    // So few elements are done before a second thread has woken up.
    let grain = if lens.iter().sum::<usize>() < 4 * BLOCK { jobs.len() } else { 1 };
    for_rows(jobs.len(), grain, Rows::single(&mut jobs), |_, jobs| {
        for (job, result) in jobs.values {
            if let Some((block, part)) = job.take() {
                *result = f(block, part);
            }
        }
    });
    jobs.into_iter().map(|(_, result)| result).collect()
}

/// Nothing to split: for blocks that only read.
impl Split for () {
    fn split(self, _: usize) -> (Self, Self) {
        ((), ())
    }
}

/// A mutable slice that threads split into disjoint parts themselves.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `part` only, whose caller guarantees that no two of them overlap.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above; a `Shared` is a mutable borrow of a slice.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// A pointer to element `at`, for writing strided parts.
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
        // SAFETY: inside the slice by the assertion; disjoint from other parts by the caller's guarantee.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::with_kernel_threads;

    #[test]
    fn blocks_cover_every_element_of_every_slice_once() {
        let lens = [0, 5, BLOCK, 0, 0, 3 * BLOCK + 1, 1, 0];
        for threads in [1, 2, 7] {
            let mut slices = lens.map(|len| vec![0u8; len]);
            let buffers = slices.iter_mut().map(|slice| Rows::single(slice));
            let found = with_kernel_threads(threads, || {
                for_blocks(&lens, buffers, |block, rows| {
                    rows.values.iter_mut().for_each(|value| *value += 1);
                    assert_eq!(rows.values.len(), block.range.len());
                    (block.slice, block.range.start)
                })
            });
            assert!(slices.iter().flatten().all(|&value| value == 1));
            let expected: Vec<(usize, usize)> = (0..lens.len())
                .flat_map(|slice| (0..n_blocks(lens[slice])).map(move |block| (slice, block * BLOCK)))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn each_job_runs_once() {
        for threads in [1, 2, 7] {
            for n in [0, 1, 50] {
                let mut done = vec![0u8; n];
                let shared = Shared::new(&mut done);
                with_kernel_threads(threads, || {
                    // SAFETY: each job is given out once.
                    for_jobs(n, || (), |(), job| unsafe { shared.part(job..job + 1)[0] += 1 });
                });
                assert_eq!(done, vec![1; n]);
            }
        }
    }

    #[test]
    fn ranges_get_their_parts_of_all_buffers() {
        for threads in [1, 2, 3, 8] {
            for (n, grain) in [(0, 1), (1, 4), (10, 3), (64, 1), (7, 100)] {
                // One row more than requested, which stays unchanged.
                let (mut wide, mut single) = (vec![0; 3 * (n + 1)], vec![0; n + 1]);
                let buffers = (Rows::new(&mut wide, 3), Some(Rows::single(&mut single)));
                with_kernel_threads(threads, || {
                    for_rows(n, grain, buffers, |range, (wide, single)| {
                        assert_eq!(wide.values.len(), 3 * range.len());
                        wide.values.chunks_mut(3).zip(range.clone()).for_each(|(row, at)| row.fill(at + 1));
                        let single = single.expect("given").values;
                        single.iter_mut().zip(range).for_each(|(value, at)| *value += at + 1);
                    });
                });
                let expected: Vec<usize> = (1..=n).chain([0]).collect();
                assert_eq!(single, expected, "{n} rows in grains of {grain} on {threads} threads");
                assert_eq!(wide, expected.iter().flat_map(|&at| [at; 3]).collect::<Vec<_>>());
            }
        }
    }
}
