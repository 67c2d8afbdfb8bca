//! candle's own thread pool, kept out of the way of ours.
#![allow(unsafe_code)]

/// Keeps candle's own CPU pool to one thread; a program calls it first of all, before it starts a thread.
///
/// That pool spins while it waits, beside threads that work: half of all CPU time can go there. Whoever set
/// `CANDLE_NUM_THREADS` knows better, and is left alone.
pub fn candle_on_one_thread() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: called at the start of `main`, when no other thread exists that could read the environment.
        unsafe { std::env::set_var(NAME, "1") };
    }
}
