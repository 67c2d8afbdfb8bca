//! Errors of communication between processes.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of communication between processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A process that others wait for has ended.
    #[error("process {rank} of {size} ended unexpectedly")]
    Gone {
        /// Its rank.
        rank: usize,
        /// The number of processes.
        size: usize,
    },
    /// Another process sent a different number of bytes than expected.
    #[error("process {rank} sent {sent} bytes, {wanted} were expected: the processes run different programs")]
    Length {
        /// The sender.
        rank: usize,
        /// The number of bytes received.
        sent: usize,
        /// The number of bytes expected.
        wanted: usize,
    },
    /// More processes than leaves.
    #[error("{size} processes are too many: a step has only {n_leaves} parts")]
    TooMany {
        /// The number of processes.
        size: usize,
        /// The number of leaves.
        n_leaves: usize,
    },
    /// A launcher has started several processes, and this program can't join them.
    #[error(
        "{launcher} has started this program as {size} processes, but it was built without MPI: build it with \
         `cargo build --release --features vulpes-cli/mpi` (needs an MPI with its mpicc, and libclang), or start one process"
    )]
    NotBuilt {
        /// The launcher's name.
        launcher: &'static str,
        /// The number of processes started.
        size: usize,
    },
    /// The engine can't be used.
    #[error("MPI: {0}")]
    Engine(String),
    /// The values themselves could not be read or written.
    #[error(transparent)]
    Numbers(Box<dyn std::error::Error + Send + Sync>),
}
