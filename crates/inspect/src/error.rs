//! What can go wrong while a model is looked at.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A quantity that the loss should depend on got no gradient.
    #[error("no gradient reached {0}: an operation before the loss has no backward")]
    NoGradient(String),
}
