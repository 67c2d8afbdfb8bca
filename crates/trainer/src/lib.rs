//! Learning: one step after the other, the same bits on any number of threads and processes.
//!
//! batches → [`Stepper`] (shards, gradients, their sum) → [`census`] → clip → [`Optimizer`] → [`State`]; [`Training`]
//! holds them together.
//!
//! Knows nothing of TOML, terminals and run folders.
//!
//! A step's time depends on two things that belong to the process, not to a library: `train` keeps candle's own pool to
//! one thread (`CANDLE_NUM_THREADS=1` in the environment) and has mimalloc keep freed memory. Without them the same
//! bits come out, only later.

pub mod freeze;

mod census;
mod contrast;
mod error;
mod evaluate;
mod failed;
mod optimizer;
mod schedule;
mod shard;
mod slices;
mod spike;
mod state;
mod step;
mod training;

pub use census::census;
pub use contrast::Contrast;
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use failed::{FailedStep, first_not_finite};
pub use optimizer::{Optimizer, OptimizerConfig, OptimizerKind, StateDtype};
pub use schedule::{Schedule, ScheduleConfig, ScheduleKind};
pub use spike::{OnSpike, SpikeMean, SpikeRule};
pub use state::{Best, State};
pub use step::{STACK_BYTES, StepLoss, StepOptions, Stepper, default_shards, n_gradients};
pub use training::{StepNumbers, Training, TrainingOptions};
pub use vulpes_ops::threads::Precision;
