//! Training: from one TOML file to a model folder, the same bits on any number of threads and after any interruption.
//!
//! [`RunConfig`] → [`Plan`] → [`fit`]: batches → [`Stepper`] (shards, gradients, their sum) → census → clip →
//! [`Optimizer`] → metrics → evaluation → checkpoint.
//!
//! Knows nothing of pictures of attention; `loss.svg` is the only picture that it draws. Knows nothing of terminals:
//! a [`Reporter`] hears how a run goes on.
//!
//! A step's time depends on two things that belong to the process, not to a library: `train` keeps candle's own pool to
//! one thread (`CANDLE_NUM_THREADS=1` in the environment) and has mimalloc keep freed memory. Without them the same
//! bits come out, only later.

pub mod checkpoint;
pub mod config;

mod base;
mod census;
mod doctor;
mod embedded;
mod error;
mod evaluate;
mod fit;
mod freeze;
mod human;
mod metrics;
mod optimizer;
mod plan;
mod plot;
mod reporter;
mod resume;
mod run_folder;
mod schedule;
mod session;
mod shell;
mod spike;
mod step;
mod tensorboard;
mod verify;
mod watch;

pub use census::census;
pub use config::RunConfig;
pub use embedded::{EMBEDDED, find as find_config};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate};
pub use fit::{FitOptions, Summary, evaluate_session, fit};
pub use human::{duration, thousands};
pub use metrics::StepLine;
pub use optimizer::Optimizer;
pub use plan::{Plan, PlanOptions};
pub use reporter::Reporter;
pub use schedule::Schedule;
pub use session::{Session, Sick, StepNumbers};
pub use shell::quoted;
pub use spike::SpikeMean;
pub use step::{STACK_BYTES, StepLoss, Stepper, default_shards};
pub use verify::{Checked, Verified, check, is_patient, replay_patient, tokenizer_folder, verify};
