//! How many threads a kernel may use, and whether kernels may be used at all, each a setting of the calling thread.

use std::cell::Cell;

thread_local! {
    static KERNEL_THREADS: Cell<usize> = const { Cell::new(1) };
    static REFERENCE: Cell<bool> = const { Cell::new(false) };
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::Float32) };
    static FAST_FORMS: Cell<u64> = const { Cell::new(0) };
}

/// Puts a thread's setting back when it is dropped, also when a panic unwinds.
pub(crate) struct Restore<T: Copy + 'static>(
    pub(crate) &'static std::thread::LocalKey<Cell<T>>,
    pub(crate) T,
);

impl<T: Copy + 'static> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Runs `f` with kernels that may use `n` threads each (0 counts as 1).
///
/// The results have the same bits for every `n`: threads share out rows and columns, never the terms of a sum.
pub fn with_kernel_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&KERNEL_THREADS, KERNEL_THREADS.replace(n.max(1)));
    f()
}

/// How many threads a kernel called from this thread may use: 1 unless [`with_kernel_threads`] says otherwise.
pub fn kernel_threads() -> usize {
    KERNEL_THREADS.get()
}

/// What the factors of a projection's products are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Not at all.
    #[default]
    Float32,
    /// To bfloat16, the nearest, ties to even; sums and results stay float32.
    Bfloat16,
}

/// Runs `f` with the matrix products of projections in this precision, forward and backward.
///
/// Attention's own products, norms, activations and losses stay float32, and so does float64.
pub fn with_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&PRECISION, PRECISION.replace(precision));
    f()
}

/// The precision that is in force on this thread.
pub(crate) fn precision() -> Precision {
    PRECISION.get()
}

/// Runs `f` with every operation in its [`mod@crate::reference`] form: for comparisons, of results and of time.
pub fn with_reference<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&REFERENCE, REFERENCE.replace(true));
    f()
}

/// Whether [`with_reference`] is in force on this thread.
pub(crate) fn reference_only() -> bool {
    REFERENCE.get()
}

/// How many fast forms this thread has run: for the tests, which must not compare a reference with itself.
#[doc(hidden)]
pub fn n_fast_forms() -> u64 {
    FAST_FORMS.get()
}

/// Called for each fast form: one addition, beside all that an operation does.
pub(crate) fn count_fast_form() {
    FAST_FORMS.set(FAST_FORMS.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_hold_inside_and_are_restored() {
        assert_eq!(kernel_threads(), 1);
        let inside = with_kernel_threads(3, || (kernel_threads(), with_kernel_threads(0, kernel_threads)));
        assert_eq!((inside, kernel_threads()), ((3, 1), 1));
        let panicked = std::panic::catch_unwind(|| with_kernel_threads(5, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(kernel_threads(), 1);
        assert!(with_reference(|| REFERENCE.get()));
        assert!(!REFERENCE.get());
    }
}
