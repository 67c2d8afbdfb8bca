//! Training: from one TOML file to a model folder, the same bits on any number of threads and after any interruption.
//!
//! [`RunConfig`] → [`Plan`] → [`fit`]: batches → [`Stepper`] (shards, gradients, their sum) → census → clip →
//! [`Optimizer`] → metrics → evaluation → checkpoint.
//!
//! Knows nothing of pictures of attention; `loss.svg` is the only picture that it draws.

pub mod checkpoint;
pub mod config;

mod census;
mod error;
mod evaluate;
mod metrics;
mod optimizer;
mod plot;
mod progress;
mod run_folder;
mod schedule;
mod signals;
mod spike;
mod step;
mod tensorboard;

pub use census::census;
pub use config::RunConfig;
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use optimizer::Optimizer;
pub use schedule::Schedule;
pub use signals::Signals;
pub use spike::SpikeMean;
pub use step::{StepLoss, Stepper, default_shards};
