//! What a run reads and leaves on disk: from one TOML file to a model folder, the same bits after any interruption.
//!
//! [`RunConfig`] → [`Plan`] → [`fit`]: [`Session`] (a training that follows the plan) → metrics → evaluation →
//! checkpoint; [`check`] and [`verify`] look at what lies there.
//!
//! Knows nothing of pictures of attention; `loss.svg` is the only picture that it draws. Knows nothing of terminals:
//! a [`Reporter`] hears how a run goes on.

pub mod checkpoint;
pub mod config;

mod aside;
mod base;
mod begin;
mod desk;
mod divergence;
mod embedded;
mod error;
mod failed_step;
mod fit;
mod human;
mod keep;
mod metrics;
mod plan;
mod plot;
mod reporter;
mod resume;
mod run_folder;
mod same_config;
mod same_model;
mod session;
mod shell;
mod suit;
mod tensorboard;
mod verify;
mod watch;

pub use begin::FitOptions;
pub use config::RunConfig;
pub use embedded::{EMBEDDED, find as find_config, model_folder, summary as config_summary};
pub use error::{Error, Result, agreed};
pub use failed_step::{holds_failed_step, replay_failed_step};
pub use fit::{Summary, fit};
pub use human::{duration, thousands};
pub use metrics::StepLine;
pub use plan::{Plan, PlanOptions};
pub use reporter::Reporter;
pub use session::{Collected, Session};
pub use shell::quoted;
pub use verify::{Checked, Verified, check, tokenizer_folder, verify};
