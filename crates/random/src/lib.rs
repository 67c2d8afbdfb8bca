//! Random numbers that depend on what they are for, and on nothing else.
//!
//! `Key` (seed, purpose, parts) → [`Key::stream`] → [`Stream`] of ChaCha8 numbers; [`Permutation`] shuffles by key.
//!
//! Every draw of the framework comes from a stream named by the seed, the purpose ("init", "dropout", "shuffle", …)
//! and, as the purpose needs, a parameter's name, a step or a row. No generator is ever shared or carried over, so
//! a resumed run needs no generator state, the order of the work doesn't matter, and every device draws the same
//! numbers.
//!
//! Knows nothing of tensors, text or files.

mod key;
mod permutation;
mod stream;

pub use key::{Key, Part};
pub use permutation::Permutation;
pub use stream::Stream;
