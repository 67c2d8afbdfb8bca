//! Small transformers in pure Rust: training, fine-tuning, sampling and explanation.
#![doc = include_str!("../README.md")]

mod error;

pub use candle_core as candle;
pub use vulpes_data as data;
pub use vulpes_export as export;
pub use vulpes_generate as generate;
pub use vulpes_inspect as inspect;
pub use vulpes_model as model;
pub use vulpes_ops as ops;
pub use vulpes_runs as runs;
pub use vulpes_trainer as trainer;

pub use error::{Error, Result};

/// What programs need most often, for a single import.
pub mod prelude {
    pub use crate::Error;
    pub use candle_core::{DType, Device, Tensor, Var};
    pub use vulpes_data::{DataConfig, Dataset, Tokenizer, TokenizerKind};
    pub use vulpes_generate::{Generator, SampleConfig};
    pub use vulpes_model::config::Family;
    pub use vulpes_model::{
        Input, Model, ModelSection, ParameterSpec, Parameters, Pass, Recorder, Site, Transformer,
    };
    pub use vulpes_ops::{Gradients, backward};
    pub use vulpes_runs::checkpoint;
    pub use vulpes_trainer::{OptimizerConfig, ScheduleConfig, Trainer, TrainerOptions};
}

/// The README's example, compiled and run as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct ReadmeExample;
