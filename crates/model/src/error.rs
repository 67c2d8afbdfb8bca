//! What can go wrong with a model.

/// The result of this crate's functions that read or build models.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a model, apart from the arithmetic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The config contradicts itself.
    #[error("the model's config contradicts itself: {}", .0.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; "))]
    Config(Vec<crate::config::Fault>),
    /// A parameter that the config asks for is not there.
    #[error("parameter `{0}` is missing")]
    MissingParameter(String),
    /// A parameter has another shape than the config gives it.
    #[error("parameter `{name}` has the shape {found:?}; the config wants {wanted:?}")]
    ParameterShape {
        /// Its name.
        name: String,
        /// The shape that it has.
        found: Vec<usize>,
        /// The shape that the config gives it.
        wanted: Vec<usize>,
    },
    /// The device asked for can't be used.
    #[error("{0}")]
    Device(String),
}
