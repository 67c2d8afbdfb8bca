//! Process-wide settings made first: the allocator, candle's thread pool, backtraces.
#![allow(unsafe_code)]

use clap::ArgMatches;
use mimalloc::MiMalloc;
use vulpes_runs::config::TrainConfig;
use vulpes_trainer::GradientDtype;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc's header: a stable constant that `libmimalloc_sys` doesn't define.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Makes the allocator keep freed memory for the next step instead of returning it to the system.
///
/// A training step frees everything that it allocates, and the next one allocates the same again; by default mimalloc
/// returns freed memory within milliseconds, and the system zeroes each page before reuse. With this setting, the
/// process stays at its largest size.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
unsafe fn keep_freed_memory() {
    // SAFETY: the function takes two integers; the caller promises that no other thread allocates meanwhile.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) }
}

/// Makes the allocator return freed memory to the system at once, in small pages, if the config asks for gradients in
/// bfloat16: for a training that should take little memory, on any machine.
///
/// In large pages a buffer can't be returned while its neighbors are in use. A step takes more time: the system clears
/// every page anew (the README of `vulpes-ops` has memory and time).
pub(crate) fn fit_memory(train: &TrainConfig) {
    if train.gradient_dtype == GradientDtype::Bfloat16 {
        // SAFETY: the function takes two integers; a thread that allocates meanwhile uses the old or the new one.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) }
        #[cfg(target_os = "linux")]
        // Where the system refuses, the process only takes more memory.
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
}

/// Keeps candle's own CPU pool to one thread.
///
/// That pool spins while it waits and competes with working threads: it can take half of all CPU time. An existing
/// `CANDLE_NUM_THREADS` is respected.
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

/// Keeps candle from adding a backtrace to error messages.
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

/// The settings of a program that reads a model.
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

/// The settings of `explain`, which reads a model, and trains with `--teachers`.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
pub(crate) unsafe fn for_explaining(matches: &ArgMatches) {
    // SAFETY: the caller promises that there is no other thread.
    unsafe {
        match matches.contains_id("teachers") {
            true => for_training(matches),
            false => for_reading(matches),
        }
    }
}

/// The settings of a program that trains.
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

/// The settings of a program that times steps: as for training, except for a step in plain candle.
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
