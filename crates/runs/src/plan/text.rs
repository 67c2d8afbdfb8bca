//! A plan as text and as JSON.

use std::fmt;

use serde_json::json;
use vulpes_model::device;
use vulpes_trainer::{Precision, has_bfloat16_products};

use super::Plan;
use crate::human::{bytes, counted, operations, thousands};

/// The operations of a run from which they are reported: half a minute and more.
const WORTH_SAYING: f64 = 1e13;

impl Plan {
    /// The plan as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let (all, trained) = self.n_parameters();
        json!({
            "run": self.run_dir.display().to_string(),
            "device": device::name(&self.device),
            "threads": self.n_threads,
            "processes": self.processes.size(),
            "shards": self.n_shards,
            "dtype": self.format(),
            "family": self.model.family,
            "vocab_size": self.model.vocab_size,
            "parameters": all,
            "trained_parameters": trained,
            "objective": self.config.objective.kind(),
            "frozen": self.frozen,
            "train_rows": self.dataset.n_rows(),
            "train_tokens": self.dataset.n_tokens(),
            "validation_rows": self.dataset.n_validation_rows(),
            "steps": self.config.train.steps,
            "rows_per_step": self.rows_per_step(),
            "tokens_per_step_at_most": self.tokens_per_step(),
            "flops_per_token": self.flops_per_token(),
            "budget_minutes": self.config.train.budget_minutes,
            "chosen": self.chosen,
            "memory_bytes": self.memory_bytes(),
            "checkpoint_bytes": self.checkpoint_bytes(),
        })
    }
}

impl Plan {
    fn format(&self) -> &'static str {
        match self.precision() {
            Precision::Float32 => self.dtype.as_str(),
            Precision::Bfloat16 => "bf16",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, trained) = self.n_parameters();
        let t = &self.config.train;
        let m = &self.model;
        let number = |n: usize| thousands(n as f64);
        let (mut threads, shards) = (counted(self.n_threads, "thread"), counted(self.n_shards, "shard"));
        if !self.processes.is_alone() {
            threads = format!("{} processes of {threads}", self.processes.size());
        }
        writeln!(f, "run         {}", self.run_dir.display())?;
        writeln!(
            f,
            "device      {}, {threads}, {shards} per micro-batch, {}",
            device::name(&self.device),
            self.format()
        )?;
        if self.precision() == Precision::Bfloat16 && !has_bfloat16_products() {
            writeln!(f, "note        bf16 saves memory but no time here: there is no AVX512-BF16")?;
        }
        writeln!(
            f,
            "model       {}: {}, {}, width {}, context {}",
            serde_json::to_value(m.family).ok().as_ref().and_then(|name| name.as_str()).unwrap_or_default(),
            counted(m.n_layer, "layer"),
            counted(m.n_head, "head"),
            m.d_model,
            m.context_len
        )?;
        writeln!(f, "vocabulary  {} tokens", number(m.vocab_size))?;
        write!(f, "parameters  {}", number(all))?;
        if trained != all {
            write!(f, ", {} of them trained", number(trained))?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "data        {} rows, {} tokens; validation {} rows",
            thousands(self.dataset.n_rows() as f64),
            thousands(self.dataset.n_tokens() as f64),
            thousands(self.dataset.n_validation_rows() as f64)
        )?;
        let rows = self.rows_per_step();
        let most = if t.budget_minutes.is_some() { "at most " } else { "" };
        writeln!(
            f,
            "steps       {most}{} of {} rows (at most {} tokens), {:.1} epochs",
            thousands(t.steps as f64),
            thousands(rows as f64),
            thousands(self.tokens_per_step() as f64),
            t.steps as f64 * rows as f64 / self.dataset.n_rows().max(1) as f64
        )?;
        if let Some(minutes) = t.budget_minutes {
            writeln!(f, "budget      {minutes} min, reading and evaluating included")?;
        }
        let all = self.flops_per_token() * self.tokens_per_step() as f64 * t.steps as f64;
        // For a short run the cost isn't worth mentioning.
        if all >= WORTH_SAYING {
            let each = operations(self.flops_per_token());
            writeln!(
                f,
                "operations  {each} per token (6 per weight, and attention), {most}{} in total",
                operations(all)
            )?;
        }
        write!(
            f,
            "memory      about {}; {} per checkpoint",
            bytes(self.memory_bytes()),
            bytes(self.checkpoint_bytes())
        )?;
        self.chosen.iter().try_for_each(|message| write!(f, "\nchosen      {message}"))
    }
}
