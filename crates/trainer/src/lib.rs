//! Training: from one TOML file to a model folder, the same bits on any number of threads and after any interruption.
//!
//! [`RunConfig`] → [`Plan`] → [`fit`]: batches → [`Stepper`] (shards, gradients, their sum) → census → clip →
//! [`Optimizer`] → metrics → evaluation → checkpoint.
//!
//! Knows nothing of pictures of attention; `loss.svg` is the only picture that it draws.

pub mod checkpoint;
pub mod config;

mod base;
mod census;
mod cut_files;
mod doctor;
mod error;
mod evaluate;
mod fit;
mod freeze;
mod metrics;
mod optimizer;
mod plan;
mod plot;
mod progress;
mod resume;
mod run_folder;
mod schedule;
mod session;
mod shell;
mod signals;
mod spike;
mod step;
mod tensorboard;
mod verify;
mod watch;

pub use census::census;
pub use config::RunConfig;
pub use cut_files::end_on_cut_files;
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use fit::{FitOptions, Summary, evaluate_session, fit};
pub use optimizer::Optimizer;
pub use plan::{Plan, PlanOptions};
pub use schedule::Schedule;
pub use session::{Session, Sick, StepNumbers};
pub use shell::quoted;
pub use signals::Signals;
pub use spike::SpikeMean;
pub use step::{STACK_BYTES, StepLoss, Stepper, default_shards};
pub use verify::{Checked, Verified, check, is_patient, replay_patient, tokenizer_folder, verify};
