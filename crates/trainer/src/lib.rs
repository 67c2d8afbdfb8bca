//! Training steps, bit-identical on any number of threads and processes.
#![doc = include_str!("../README.md")]

pub mod freeze;

mod average;
mod census;
mod contrast;
mod effects;
mod error;
mod evaluate;
mod failed;
mod optimizer;
mod refused;
mod schedule;
mod shard;
mod slices;
mod spike;
mod state;
mod step;
mod trainer;
mod training;

pub use census::census;
pub use contrast::Contrast;
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use failed::first_not_finite;
pub use optimizer::{
    GradientDtype, MuonConfig, Optimizer, OptimizerConfig, OptimizerKind, Orthogonal, Pace, ParameterGroup,
    Scaling, StateDtype, paces,
};
pub use refused::{Census, FailedStep};
pub use schedule::{Cooldown, DecayPath, DecayShape, Schedule, ScheduleConfig, ScheduleKind};
pub use shard::Divisor;
pub use spike::{OnSpike, SpikeMean, SpikeRule};
pub use state::{Best, State};
pub use step::{LARGE, STACK_BYTES, StepLoss, StepOptions, Stepper, default_shards, n_gradients};
pub use trainer::{Trainer, TrainerOptions};
pub use training::{StepNumbers, Training, TrainingOptions};
pub use vulpes_ops::{has_bfloat16_products, threads::Precision};
