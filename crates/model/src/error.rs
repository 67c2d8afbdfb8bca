//! The errors of building and reading models.

/// The result of this crate's functions that read or build models.
pub type Result<T> = std::result::Result<T, Error>;

/// An error in building or reading a model, apart from its arithmetic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The config contradicts itself.
    #[error("the model's config contradicts itself: {}", .0.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; "))]
    Config(Vec<crate::config::InvalidKey>),
    /// A parameter that the config needs is missing.
    #[error("parameter `{0}` is missing")]
    MissingParameter(String),
    /// A parameter's shape differs from the config's.
    #[error("parameter `{name}` has the shape {found:?}; the config requires {wanted:?}")]
    ParameterShape {
        /// Its name.
        name: String,
        /// The shape found.
        found: Vec<usize>,
        /// The shape by the config.
        wanted: Vec<usize>,
    },
    /// The requested device can't be used.
    #[error("{0}")]
    Device(String),
}
