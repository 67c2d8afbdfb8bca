//! The errors of a training.

use vulpes_collective::Processes;

use crate::refused::{Census, FailedStep};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that ends a training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The threads of a step can't be started.
    #[error("can't start {n_threads} threads: {source}")]
    Threads {
        /// The requested number.
        n_threads: usize,
        /// The system's reason.
        source: rayon::ThreadPoolBuildError,
    },
    /// `train.freeze` matches no parameter, or leaves nothing to train.
    #[error("train.freeze {0}")]
    Freeze(String),
    /// `frozen` names an unknown parameter.
    #[error("frozen: the model has no parameter {name:?}; it has {}", known.join(", "))]
    Frozen {
        /// The name.
        name: String,
        /// The model's parameters.
        known: Vec<String>,
    },
    /// `optimizer.groups` matches no parameter.
    #[error("optimizer.groups {0}")]
    Groups(String),
    /// The gradient census found a parameter without a true gradient.
    #[error("the gradient census refuses the first update: {0}")]
    Census(Census),
    /// A saved state doesn't belong to this training.
    #[error("the saved state doesn't fit: {0}")]
    State(String),
    /// A step must not be applied.
    #[error(transparent)]
    FailedStep(#[from] FailedStep),
    /// The rows of a step have no targets.
    #[error(
        "step {step}: none of its rows has a target; use larger batches (train.batch_rows, train.accumulate)"
    )]
    NoTarget {
        /// The step.
        step: u64,
    },
    /// The contrastive loss needs all rows of a step in one process.
    #[error(
        "objective.kind = \"contrastive\" needs all pairs of a step, but {size} processes would each see \
         only their own: train in one process"
    )]
    PairsOfProcesses {
        /// The number of processes.
        size: usize,
    },
    /// Several processes exchange gradients in the parameters' dtype.
    #[error(
        "train.gradient_dtype = \"bfloat16\" doesn't support {size} processes: leave it out, or train in one process"
    )]
    RoundedOfProcesses {
        /// The number of processes.
        size: usize,
    },
    /// One of the processes failed; all of them have this error.
    #[error("process {rank} of {size}: {message}")]
    Process {
        /// Which one.
        rank: usize,
        /// The number of processes.
        size: usize,
        /// Its message.
        message: String,
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

/// The result if all processes succeeded, or the first failure, the same on each; a single process keeps its own.
pub(crate) fn agree<T>(processes: &Processes, own: Result<T>) -> Result<T> {
    if processes.is_alone() {
        return own;
    }
    let failed = processes.first_said(own.as_ref().err().map(ToString::to_string).as_deref())?;
    match (own, failed) {
        (Ok(own), None) => Ok(own),
        (Err(own), None) => Err(own),
        (_, Some((rank, message))) => Err(Error::Process { rank, size: processes.size(), message }),
    }
}
