//! Checks that a plan fits the machine's memory, before anything is allocated.

use std::path::Path;

use super::Plan;
use crate::error::{Error, Result};
use crate::human::bytes;

/// The activations are an estimate: beyond this share of the machine's memory there is a warning, …
const TIGHT: f64 = 0.9;
/// … and beyond this one the run is refused. What is known exactly may not exceed the machine's memory.
const IMPOSSIBLE: f64 = 1.5;

impl Plan {
    /// The warning about the memory that the plan takes on a machine with `available` bytes.
    ///
    /// # Errors
    /// Returns an error that names the keys to change if the run can't fit.
    pub(super) fn check_memory(&self, available: Option<u64>) -> Result<Option<String>> {
        let (Some(available), true) = (available, self.device.is_cpu()) else { return Ok(None) };
        let (fixed, all) = (self.fixed_bytes(), self.memory_bytes());
        let share = all as f64 / available as f64;
        if share <= TIGHT {
            return Ok(None);
        }
        let (m, t) = (&self.model, &self.config.train);
        let message = format!(
            "the run takes about {} of memory, and this machine has {}: {} for parameters, gradients and optimizer \
             state, about {} for the activations of a step",
            bytes(all),
            bytes(available),
            bytes(fixed),
            bytes(all - fixed),
        );
        let keys = if fixed > available {
            format!("model.d_model = {}, model.d_ff = {} or model.n_layer = {}", m.d_model, m.d_ff, m.n_layer)
        } else {
            format!(
                "train.batch_rows = {} (train.accumulate keeps the rows of a step), model.context_len = {} or \
                 model.d_model = {}",
                t.batch_rows, m.context_len, m.d_model
            )
        };
        if fixed > available || share > IMPOSSIBLE {
            return Err(Error::Usage(format!("{message}; reduce {keys}")));
        }
        Ok(Some(format!("{message}; if it doesn't fit, reduce {keys}")))
    }
}

/// The memory available to this process in bytes: the machine's, or the limit of a control group; `None` if unknown.
pub(super) fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    });
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.into_iter().filter_map(|path| read(path)?.trim().parse::<u64>().ok());
    total.into_iter().chain(limit).min()
}
