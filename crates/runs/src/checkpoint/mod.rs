//! Checkpoints that are either complete and verified, or absent.
//!
//! `checkpoints/step-00000500/` is a complete model folder with the optimizer's tensors ([`STATE_TENSORS`]), the
//! counters ([`STATE_JSON`]) and a manifest of digests. [`save_folder`] writes one, [`newest`] finds the one to resume
//! from, [`prune`] removes old ones.

pub mod files;
mod load;
pub mod manifest;
mod own;
mod save;
mod state;

pub(crate) use load::check_digest;
pub use load::{Whole, newest, tensors, verify, verify_step};
pub use own::{resume, save};
pub use save::{clean, point, prune, save_folder};
pub use state::{STATE_JSON, STATE_TENSORS, read_state};
pub(crate) use state::{write_json, write_state};

use std::path::Path;

/// The folder name of a step's checkpoint: names sort by step.
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The step that a folder is named after.
pub fn step_of(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (folder_name(step) == name).then_some(step)
}

/// The steps that have a folder under `root`, in order.
pub fn steps(root: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut steps: Vec<u64> =
        names.filter_map(|entry| step_of(&entry.file_name().to_string_lossy())).collect();
    steps.sort_unstable();
    steps
}
