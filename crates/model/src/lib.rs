//! One transformer, described by numbers and enums, from the fox's single head to GPT-2, BERT and Llama.
//!
//! `[model]` section → [`ModelConfig`] → [`declare`] (every parameter's name, shape and first value) → [`Parameters`]
//! → [`Transformer`] → hidden states → logits or loss. [`Probe`] sees every intermediate value of the running model.
//!
//! Knows nothing of text, optimizers or run folders.

mod attention;
mod block;
mod cache;
pub mod config;
mod decode;
pub mod device;
mod embedding;
mod error;
mod feed_forward;
pub mod folder;
mod head;
mod input;
mod norm;
mod parameters;
mod pool;
mod probe;
mod rotary;
mod run;
mod transformer;

pub use cache::KvCache;
pub use config::{Head, ModelConfig, ModelSection};
pub use decode::{Decoder, DecoderRow};
pub use error::{Error, Result};
pub use input::Input;
pub use parameters::{Declared, FirstValue, Parameters, declare};
pub use pool::{mean_pooled, normalized};
pub use probe::{Probe, Recorder, Site};
pub use run::Run;
pub use transformer::Transformer;
pub use vulpes_ops::threads::{kernel_threads, with_kernel_threads};

/// README's example, compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeExample;
