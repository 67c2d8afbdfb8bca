//! The seam between what is summed and what carries it.

use crate::error::Result;

/// Some processes that work together, as one of them sees them.
///
/// Only messages between two processes are asked of an engine, never its own sums, whose order is its own business.
pub trait Group: Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Sends `send` to process `peer` and receives from it what it sends in the same call, as many bytes as `receive`
    /// has; either may be empty, which takes no message. Calls come from one thread at a time.
    ///
    /// # Errors
    /// When the other process has ended, or sends another number of bytes.
    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()>;

    /// Ends all processes at once with this exit code, where the engine can.
    fn abort(&self, code: u8);
}
