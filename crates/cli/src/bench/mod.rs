//! Times training steps and generation of named configs, and those of peers beside them in the same session.
//!
//! configs → a worker process each of Vulpes and of every peer (`Worker`) → rounds in turn (`compare`) → medians,
//! ratios round by round, peak memory (`Comparison`) → table or JSON (`table`, `json`).
//!
//! Steps that several processes share are timed likewise (`bench_processes`), each number of them a worker of its own.
//!
//! A corpus on its way to tokens is timed likewise (`bench_data`), each pass a process of its own.
//!
//! Each worker is a process of its own, so that its memory is its own; they never run at the same time, and each round
//! runs all of them one after another, so that a machine whose speed drifts is the same machine for all.

mod command;
mod compare;
mod data;
mod machine;
mod processes;
mod report;
mod step;
mod worker;

pub(crate) use command::{command_line, main};
