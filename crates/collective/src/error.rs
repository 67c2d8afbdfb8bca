//! What can go wrong between processes.

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A process that others wait for has ended.
    #[error("process {rank} of {size} has ended before its time")]
    Gone {
        /// Its number.
        rank: usize,
        /// How many processes there were.
        size: usize,
    },
    /// Another process sent something else than what was expected of it.
    #[error(
        "process {rank} sent {sent} bytes where {wanted} were expected: the processes run different programs"
    )]
    Length {
        /// The sender.
        rank: usize,
        /// What came.
        sent: usize,
        /// What was to come.
        wanted: usize,
    },
    /// More processes than there are leaves to share out.
    #[error("{size} processes are too many: a step has {n_leaves} parts to share out")]
    TooMany {
        /// The processes.
        size: usize,
        /// The leaves.
        n_leaves: usize,
    },
    /// A launcher has started several processes, and this program can't join them.
    #[error(
        "{launcher} has started this program as {size} processes, and it was built without MPI: build it with \
         `cargo build --release --features vulpes-cli/mpi` (needs an MPI with its mpicc, and libclang), or start one process"
    )]
    NotBuilt {
        /// The launcher's name.
        launcher: &'static str,
        /// How many it has started.
        size: usize,
    },
    /// The engine can't be used.
    #[error("MPI: {0}")]
    Engine(String),
    /// The numbers themselves could not be read or written.
    #[error(transparent)]
    Numbers(Box<dyn std::error::Error + Send + Sync>),
}
