//! The programs of Vulpes: what is typed, what is shown, and how a process ends.
//!
//! command line → arguments → a library's work, with its progress on stderr → data on stdout → exit code.
//!
//! Each program is a module with its `main`, which `src/bin` starts. [`process`] is what all of them settle first.
//! What only a program needs stands here and in no library: arguments, progress bars, signals, the allocator.
//!
//! Knows nothing of how a model computes or learns.

pub mod bench;
pub mod explain;
pub mod process;
pub mod sample;
pub mod train;
pub mod vulpes;

mod called;
mod carets;
mod ending;

pub use carets::draw as draw_faults;
