//! The programs of Vulpes: command lines, output and exit codes.
#![doc = include_str!("../README.md")]

mod bench;
mod called;
mod carets;
mod ending;
#[cfg(test)]
mod examples;
mod explain;
mod export;
mod hub;
mod labels;
mod process;
mod programs;
mod sample;
mod signals;
mod source;
mod train;

pub use carets::draw as draw_faults;
pub use programs::run;
