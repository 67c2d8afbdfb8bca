//! Text from a model, one token at a time.
//!
//! prompt → ids → model → logits of the last position → [`Sampler`] (penalties, top-k, top-p, min-p, temperature,
//! draw) → token → text.
//!
//! Knows nothing of optimizers or training.

mod config;
mod error;
mod generation_config;
mod sampler;

pub use config::{Problem, SampleConfig};
pub use error::Error;
pub use generation_config::GenerationConfig;
pub use sampler::{Candidate, Choice, Sampler, Stage, Trace};
