//! Thread-local settings of the kernels: number of threads, precision, and whether to use references only.

use candle_core::DType;
use std::cell::Cell;
use std::sync::OnceLock;

thread_local! {
    /// 0 = the number of cores.
    static KERNEL_THREADS: Cell<usize> = const { Cell::new(0) };
    static REFERENCE: Cell<bool> = const { Cell::new(false) };
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::Float32) };
    static FAST_FORMS: Cell<u64> = const { Cell::new(0) };
}

/// Restores a thread's setting when it is dropped, even when a panic unwinds.
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
/// The results have the same bits for every `n`: threads divide rows and columns, never the terms of a sum.
pub fn with_kernel_threads<R>(n: usize, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&KERNEL_THREADS, KERNEL_THREADS.replace(n.max(1)));
    f()
}

/// The number of threads for a kernel called from this thread: one per core unless set by [`with_kernel_threads`].
pub fn kernel_threads() -> usize {
    match KERNEL_THREADS.get() {
        0 => n_cores(),
        n => n,
    }
}

/// The number of cores that this process may use.
pub fn n_cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// The precision of the factors in the matrix products of projections and attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Unrounded.
    #[default]
    Float32,
    /// Rounded to bfloat16, ties to even; sums and results stay float32.
    Bfloat16,
}

/// Runs `f` with the matrix products of projections and of attention in this precision, forward and backward.
///
/// All else stays float32: softmax, norms, activations, losses, sums, what adapters add, and attention with biases on its
/// scores. float64 stays float64.
pub fn with_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&PRECISION, PRECISION.replace(precision));
    f()
}

/// This thread's precision.
pub(crate) fn precision() -> Precision {
    PRECISION.get()
}

/// The precision that is in force on this thread for products of numbers of this type.
pub(crate) fn precision_of(dtype: DType) -> Precision {
    if dtype == DType::F32 { precision() } else { Precision::Float32 }
}

/// Runs `f` with every operation in its [`mod@crate::reference`] form: for comparisons, of results and of time.
pub fn with_reference<R>(f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&REFERENCE, REFERENCE.replace(true));
    f()
}

/// Whether [`with_reference`] is active on this thread.
pub(crate) fn reference_only() -> bool {
    REFERENCE.get()
}

/// The number of fast forms that this thread has run: for tests, which must not compare a reference with itself.
#[doc(hidden)]
pub fn n_fast_forms() -> u64 {
    FAST_FORMS.get()
}

/// Counts a fast form; the cost is negligible.
pub(crate) fn count_fast_form() {
    FAST_FORMS.set(FAST_FORMS.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_hold_inside_and_are_restored() {
        let n_cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(kernel_threads(), n_cores);
        let inside = with_kernel_threads(3, || (kernel_threads(), with_kernel_threads(0, kernel_threads)));
        assert_eq!((inside, kernel_threads()), ((3, 1), n_cores));
        let panicked = std::panic::catch_unwind(|| with_kernel_threads(5, || panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(kernel_threads(), n_cores);
        assert!(with_reference(|| REFERENCE.get()));
        assert!(!REFERENCE.get());
    }
}
