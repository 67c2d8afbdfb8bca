//! What can stop a training.

use vulpes_collective::Processes;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can stop a training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The threads of a step can't be started.
    #[error("can't start {n_threads} threads: {source}")]
    Threads {
        /// How many were asked for.
        n_threads: usize,
        /// The system's reason.
        source: rayon::ThreadPoolBuildError,
    },
    /// `train.freeze` names what there isn't, or leaves nothing to train.
    #[error("train.freeze {0}")]
    Freeze(String),
    /// The gradient census found a parameter without a true gradient.
    #[error("{0}")]
    Census(String),
    /// The rows of a step have nothing to learn.
    #[error(
        "step {step}: none of its rows has a target; use larger batches (train.batch_rows, train.accumulate)"
    )]
    NoTarget {
        /// The step.
        step: u64,
    },
    /// Pairs of texts are told from the others of the step, which other processes would have.
    #[error(
        "objective.kind = \"contrastive\" tells each pair from all others of the step, and {size} processes would each \
         see their own alone: train in one process"
    )]
    PairsOfProcesses {
        /// How many processes there are.
        size: usize,
    },
    /// One of the processes failed; every one of them has this error.
    #[error("process {rank} of {size}: {words}")]
    Process {
        /// Which one.
        rank: usize,
        /// How many there are.
        size: usize,
        /// What it had to say.
        words: String,
    },
    /// The processes can't work together.
    #[error(transparent)]
    Collective(#[from] vulpes_collective::Error),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] vulpes_model::Error),
    /// The data failed.
    #[error(transparent)]
    Data(#[from] vulpes_data::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What all processes go on with, or the first one's failure, the same on each; a process alone keeps its own.
pub(crate) fn agree<T>(processes: &Processes, own: Result<T>) -> Result<T> {
    if processes.is_alone() {
        return own;
    }
    let failed = processes.first_said(own.as_ref().err().map(ToString::to_string).as_deref())?;
    match (own, failed) {
        (Ok(own), None) => Ok(own),
        (Err(own), None) => Err(own),
        (_, Some((rank, words))) => Err(Error::Process { rank, size: processes.size(), words }),
    }
}
