//! What a process settles before anything else: its allocator, and how many threads candle may start.
#![allow(unsafe_code)]

use clap::ArgMatches;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc's header, a number of its stable interface that `libmimalloc_sys` doesn't name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Lets the allocator keep freed memory for the next step rather than return it to the system.
///
/// A training step frees everything that it allocates and the next one asks for the same again; by default mimalloc
/// returns freed memory within milliseconds, and the system clears each page before it hands it out once more.
/// The process stays at its largest size instead.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
unsafe fn keep_freed_memory() {
    // SAFETY: the function takes two plain numbers; the caller promises that no other thread allocates meanwhile.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

/// Keeps candle's own CPU pool to one thread.
///
/// That pool spins while it waits, beside threads that work: half of all CPU time can go there. Whoever set
/// `CANDLE_NUM_THREADS` knows better, and is left alone.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
unsafe fn candle_on_one_thread() {
    const NAME: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: the caller promises that no other thread exists that could read the environment.
        unsafe { std::env::set_var(NAME, "1") };
    }
}

/// Keeps candle from adding the program's own stack to the message of an error.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
unsafe fn errors_without_backtraces() {
    const NAME: &str = "RUST_LIB_BACKTRACE";
    if std::env::var_os(NAME).is_none() {
        // SAFETY: the caller promises that no other thread exists that could read the environment.
        unsafe { std::env::set_var(NAME, "0") };
    }
}

/// What a program settles that reads a model.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
pub(crate) unsafe fn for_reading(_: &ArgMatches) {
    // SAFETY: the caller promises that there is no other thread.
    unsafe {
        errors_without_backtraces();
        candle_on_one_thread();
    }
}

/// What a program settles that trains.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
pub(crate) unsafe fn for_training(_: &ArgMatches) {
    // SAFETY: the caller promises that there is no other thread.
    unsafe {
        errors_without_backtraces();
        keep_freed_memory();
        candle_on_one_thread();
    }
}

/// What a program settles that times steps: as for training, but for a step in plain candle.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
pub(crate) unsafe fn for_timing(matches: &ArgMatches) {
    if !matches.get_flag("plain") {
        // SAFETY: the caller promises that there is no other thread.
        unsafe {
            keep_freed_memory();
            candle_on_one_thread();
        }
    }
}
