//! The interface to a communication engine.

use crate::error::Result;

/// A group of processes that work together, as one of them sees it.
///
/// An engine only exchanges messages between two processes; its own sums are not used, as their order is unspecified.
pub trait Group: Send + Sync {
    /// The rank of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn size(&self) -> usize;

    /// Sends `send` to process `peer` and receives what that sends in the same call, as many bytes as `receive` has;
    /// either may be empty, which takes no message. Calls come from one thread at a time.
    ///
    /// # Errors
    /// Returns an error if the other process has ended, or sends another number of bytes.
    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()>;

    /// Ends all processes at once with this exit code, if the engine can.
    fn abort(&self, code: u8);
}
