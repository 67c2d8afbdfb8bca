//! The allocator's one setting that a training run cares for.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

// Linked with the library of the `mimalloc` crate, which has no name for this function by itself.
use mimalloc as _;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

/// `mi_option_purge_delay` of mimalloc's header, a number of its stable interface.
const PURGE_DELAY: c_int = 15;

/// Lets mimalloc keep freed memory for the next step rather than hand it back to the system.
///
/// A training step frees everything that it allocates and the next one asks for the same again; by default mimalloc
/// gives freed memory back within milliseconds, and the system clears each page before it hands it out once more.
/// The process stays at its largest size instead.
///
/// To be called early in `main`, by programs whose global allocator is mimalloc; it does nothing for others.
pub fn keep_freed_memory() {
    // SAFETY: the function takes two plain numbers; it isn't safe beside other threads that start to
    // allocate, of which there are none early in `main`.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
}
