//! The programs of Vulpes: what is typed, what is shown, and how a process ends.
//!
//! command line → arguments → a library's work, with its progress on stderr → data on stdout → exit code.
//!
//! Each program is a module with its command line and its `main`; [`run`] settles what the process needs and starts one,
//! by its own name or as a subcommand of `vulpes`.
//! What only a program needs stands here and in no library: arguments, progress bars, signals, the allocator.
//!
//! Knows nothing of how a model computes or learns.

mod bench;
mod called;
mod carets;
mod ending;
mod explain;
mod export;
mod hub;
mod process;
mod programs;
mod sample;
mod signals;
mod train;

pub use carets::draw as draw_faults;
pub use programs::run;
