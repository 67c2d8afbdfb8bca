//! Times training steps and generation of configs, and of other programs in the same session.
//!
//! configs → a worker process each for Vulpes and every peer (`Worker`) → alternating rounds (`compare`) → medians,
//! ratios per round, peak memory (`Comparison`) → table or JSON (`table`, `json`).
//!
//! Steps shared by several processes are timed likewise (`bench_processes`), with a worker per number of processes.
//!
//! Tokenizing is timed likewise (`bench_data`), each pass in a separate process.
//!
//! A study (`study`) measures no time: it trains variants of a config and compares their losses.
//!
//! Each worker is a separate process with its own memory. They never run at the same time, and each round runs all of
//! them one after another, so that a drifting machine speed affects all alike.

mod command;
mod compare;
mod data;
mod finetune;
mod generation;
mod machine;
mod processes;
mod report;
mod step;
mod study;
mod worker;

pub(crate) use command::{command_line, main};
