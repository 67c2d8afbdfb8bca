//! An error type for programs, to which `?` converts any other.

use std::fmt;

/// A result that `?` returns any error from.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with a message for people: `?` converts any other error to it, and a `main` that returns it prints the
/// message.
pub struct Error(Box<dyn std::error::Error + Send + Sync>);

impl Error {
    /// An error with a custom message.
    pub fn msg(message: impl Into<String>) -> Self {
        Self(message.into().into())
    }

    /// The wrapped error.
    pub fn inner(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    /// The message, too: this is what `main` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_prints_the_message() {
        fn read() -> Result<String> {
            Ok(std::fs::read_to_string("nothing/here")?)
        }
        let error = read().expect_err("there is no such file");
        assert!(format!("{error:?}").starts_with("No such file"), "{error:?}");
        assert!(error.inner().downcast_ref::<std::io::Error>().is_some());
        assert_eq!(format!("{:?}", Error::msg("which folder?")), "which folder?");
    }
}
