//! Random numbers that depend only on a seed and their purpose.
#![doc = include_str!("../README.md")]

mod key;
mod permutation;
mod stream;

pub use key::{Key, Part};
pub use permutation::Permutation;
pub use stream::Stream;
