//! One transformer, configured as the fox's single head, GPT-2, Llama, Qwen, Gemma, BERT or ModernBERT.
#![doc = include_str!("../README.md")]

pub mod adapter;
mod cache;
mod choose;
pub mod config;
mod decoder;
pub mod device;
mod embedder;
mod error;
mod families;
mod flops;
pub mod folder;
pub mod gguf;
pub mod hub;
mod input;
pub mod layers;
mod magic;
mod mapped;
mod merge;
mod model;
mod parameters;
mod pass;
mod plain_name;
mod pool;
mod probe;
mod rotary;
mod section;
mod setters;
mod spec;
mod transformer;

pub use cache::KvCache;
pub use choose::{Chosen, Unknown};
pub use config::{Head, ModelConfig};
pub use decoder::{Decoder, DecoderRow, Feed, Wanted};
pub use embedder::{Embedder, TextPooling, contrastive, contrastive_no_grad};
pub use error::{Error, Result};
pub use flops::{flops_per_token, n_read_by_token};
pub use input::Input;
pub use layers::{
    Block, ClassifierStep, HeadLayer, Layers, Norm, Residual, Transform, adapted_specs, n_parameters,
    parameter_specs,
};
pub use model::Model;
pub use parameters::Parameters;
pub use pass::Pass;
pub use pool::{mean_pooled, normalized};
pub use probe::{Probe, Recorder, Site};
pub use section::ModelSection;
pub use spec::{Init, Kind, Location, ParameterSpec, Part, Role};
pub use transformer::Transformer;
pub use vulpes_ops::decode::PackedType;
pub use vulpes_ops::threads::{kernel_threads, n_cores, with_kernel_threads};
