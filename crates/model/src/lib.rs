//! One transformer, described by numbers and enums, from the fox's single head to GPT-2, Llama, Qwen, Gemma, BERT
//! and ModernBERT.
//!
//! `[model]` section → [`ModelConfig`] → [`Layers`] of [`ParameterSpec`]s (every parameter's name, shape, initialization
//! and role) → [`Parameters`] → [`Transformer`] → hidden states → logits or loss. [`Probe`] sees every intermediate value
//! of the running model.
//!
//! Knows nothing of text, optimizers or run folders.

mod cache;
pub mod config;
mod decoder;
pub mod device;
mod embedder;
mod error;
mod families;
pub mod folder;
pub mod hub;
mod input;
pub mod layers;
mod parameters;
mod plain_name;
mod pool;
mod probe;
mod rotary;
mod run;
mod section;
mod spec;
mod transformer;

pub use cache::KvCache;
pub use config::{Head, ModelConfig};
pub use decoder::{Decoder, DecoderRow};
pub use embedder::{Embedder, TextPooling, contrastive, contrastive_no_grad};
pub use error::{Error, Result};
pub use input::Input;
pub use layers::{
    Block, ClassifierStep, HeadLayer, Layers, Norm, Residual, Transform, n_parameters, parameter_specs,
};
pub use parameters::Parameters;
pub use pool::{mean_pooled, normalized};
pub use probe::{Probe, Recorder, Site};
pub use run::Run;
pub use section::ModelSection;
pub use spec::{Init, Kind, Location, ParameterSpec, Part, Role};
pub use transformer::Transformer;
pub use vulpes_ops::threads::{kernel_threads, with_kernel_threads};

/// README's example, compiled and run with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeExample;
