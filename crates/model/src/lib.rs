//! One transformer, described by numbers and enums, from the fox's single head to GPT-2, BERT and Llama.

pub mod config;
pub mod device;
mod error;
mod parameters;

pub use config::{Head, ModelConfig, ModelSection};
pub use error::{Error, Result};
pub use parameters::{Declared, FirstValue, Parameters, declare};
