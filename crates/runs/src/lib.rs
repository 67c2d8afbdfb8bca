//! Training runs on disk: from one TOML file to a model folder, bit-identical after any interruption.
#![doc = include_str!("../README.md")]

pub mod checkpoint;
pub mod config;

mod base_model;
mod begin;
mod defaults;
mod divergence;
mod embedded;
mod error;
mod failed_step;
mod fit;
mod human;
mod metrics;
mod overwrite;
mod pace;
mod plan;
mod plot;
mod reporter;
mod resume;
mod run_folder;
mod run_log;
mod run_writer;
mod same_config;
mod same_model;
mod samples;
mod save;
mod session;
mod shell;
mod teachers;
mod tensorboard;
mod verify;

pub use begin::FitOptions;
pub use config::RunConfig;
pub use embedded::{EMBEDDED, find as find_config, model_folder, model_sources, summary as config_summary};
pub use error::{Error, Result, agreed};
pub use failed_step::{holds_failed_step, replay_failed_step};
pub use fit::{Summary, fit};
pub use human::{duration, operations, thousands};
pub use metrics::StepLine;
pub use plan::{Plan, PlanOptions};
pub use reporter::Reporter;
pub use session::{Collected, Session};
pub use shell::quoted;
pub use teachers::{Moment, Question, Teacher, TeacherOptions, TeacherProgress, Teachers, teachers};
pub use verify::{Checked, Verified, check, tokenizer_folder, verify};
