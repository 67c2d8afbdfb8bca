//! The sizes of a plan: parameters, memory, disk space, operations.

use candle_core::DType;
use vulpes_collective::leaves_of;
use vulpes_model::adapter::BaseDtype;
use vulpes_trainer::{GradientDtype, Optimizer, n_gradients};

use super::pairs::texts_of_row;
use super::{Plan, adapter};
use crate::error::{Error, Result};

impl Plan {
    /// The number of elements of all parameters, and of the trained ones.
    pub fn n_parameters(&self) -> (usize, usize) {
        self.specs().iter().fold((0, 0), |(all, trained), spec| {
            let n = spec.numel();
            (all + n, trained + if self.is_trainable(&spec.name) { n } else { 0 })
        })
    }

    /// The number of elements of the optimizer's state.
    fn n_optimizer_state(&self) -> usize {
        let specs = self.specs();
        let trained = specs.iter().filter(|spec| self.is_trainable(&spec.name));
        trained.map(|spec| Optimizer::state_numel(&self.config.optimizer, spec)).sum()
    }

    /// Bytes per element of the optimizer's state.
    fn state_bytes(&self) -> usize {
        self.config.optimizer.state_dtype.of(self.dtype).size_in_bytes()
    }

    /// The size of a checkpoint on disk in bytes, within a few thousand.
    pub fn checkpoint_bytes(&self) -> u64 {
        let (all, trained) = self.n_parameters();
        let all = if self.adapter.is_some() { trained } else { all };
        let state = self.n_optimizer_state() * self.state_bytes();
        let files: usize = self.tokenizer_files().map(|(_, bytes)| bytes.len()).sum();
        let tokenizer = files + self.dataset.tokenizer().map_or(0, |tokenizer| tokenizer.to_json().len());
        // With an average of the weights, the weights themselves are kept, and the average a second time.
        let means = if self.config.train.ema.is_some() { 2 * trained } else { 0 };
        ((all + means) * self.dtype.size_in_bytes() + state + tokenizer + 64 * 1024) as u64
    }

    /// The exact memory of parameters, gradients and optimizer on one process, in bytes.
    pub(super) fn fixed_bytes(&self) -> u64 {
        let (all, trained) = self.n_parameters();
        let (size, n_leaves) = (self.processes.size(), self.n_leaves());
        let leaves = leaves_of(self.processes.rank(), size, n_leaves);
        let n_sets = n_gradients(leaves, n_leaves, self.n_shards, self.n_threads);
        let of_gradient = match self.config.train.gradient_dtype {
            GradientDtype::Full => self.dtype,
            GradientDtype::Bfloat16 => DType::BF16,
        };
        let gradients = (trained * of_gradient.size_in_bytes()).saturating_mul(n_sets);
        let state = self.n_optimizer_state().div_ceil(size) * self.state_bytes();
        let kept = self.bytes_of((all - trained) as u128);
        let kept = match adapter::base_dtype(&self.config) {
            BaseDtype::Float32 => kept,
            BaseDtype::Bfloat16 => kept / 2,
            // 34 bytes per 32 values.
            BaseDtype::Q8_0 => kept / 128 * 34,
        };
        let whole = self.bytes_of(trained as u128).saturating_add(kept);
        let means = if self.config.train.ema.is_some() { self.bytes_of(trained as u128) } else { 0 };
        whole.saturating_add(means).saturating_add(gradients as u64).saturating_add(state as u64)
    }

    /// Whether the objective is contrastive.
    fn is_of_pairs(&self) -> bool {
        texts_of_row(&self.config.objective) > 1
    }

    /// The number of parts of a step that processes can divide among them.
    fn n_leaves(&self) -> usize {
        // A contrastive step has one loss: its shards span all micro-batches.
        let of_each = if self.is_of_pairs() { 1 } else { self.micro_batches(1) };
        self.n_shards.saturating_mul(of_each)
    }

    /// Checks that each process has a part of a step.
    pub(super) fn check_processes(&self) -> Result<()> {
        let (size, n_leaves) = (self.processes.size(), self.n_leaves());
        if self.is_of_pairs() && size > 1 {
            return Err(Error::Usage(vulpes_trainer::Error::PairsOfProcesses { size }.to_string()));
        }
        if self.config.train.gradient_dtype == GradientDtype::Bfloat16 && size > 1 {
            return Err(Error::Usage(vulpes_trainer::Error::RoundedOfProcesses { size }.to_string()));
        }
        if size <= n_leaves {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{size} processes are too many: a step of this config has {n_leaves} parts (train.accumulate = {}, \
             times {} shards per micro-batch), and a process without one would be idle; start at most {n_leaves}, \
             or raise train.shards (at most the rows of a micro-batch, {}) or train.accumulate, which changes the \
             run",
            self.config.train.accumulate, self.n_shards, self.config.train.batch_rows
        )))
    }

    /// The memory of the run in bytes: parameters, optimizer and gradients exactly, activations estimated.
    pub fn memory_bytes(&self) -> u64 {
        let wide = |n: usize| n as u128;
        let m = &self.model;
        let longest = self.dataset.longest_row();
        let train = &self.config.train;
        let texts = texts_of_row(&self.config.objective);
        // A contrastive step keeps the tapes of all shards.
        let waits = texts > 1 && train.accumulate == 1;
        let at_once = if waits { self.n_shards } else { self.n_shards.min(self.n_threads).max(1) };
        let rows = train.batch_rows.saturating_mul(texts).div_ceil(self.n_shards);
        let tokens = wide(rows) * wide(longest) * wide(at_once);
        // Per token, a block keeps about ten tensors of the model's width, three of the feed-forward's, and its
        // weights.
        let of_block = 10 * wide(m.d_model) + 3 * wide(m.d_ff) + 2 * wide(m.n_head) * wide(longest);
        // With recomputation, every block keeps its input, and one block at a time all activations.
        let per_token = match self.config.train.recompute {
            true => wide(m.n_layer) * wide(m.d_model) + of_block + 4 * wide(m.d_model),
            false => wide(m.n_layer) * of_block + 4 * wide(m.d_model),
        };
        self.fixed_bytes().saturating_add(self.bytes_of(tokens.saturating_mul(per_token)))
    }

    /// The bytes of this many elements, saturating.
    fn bytes_of(&self, numbers: u128) -> u64 {
        u64::try_from(numbers.saturating_mul(self.dtype.size_in_bytes() as u128)).unwrap_or(u64::MAX)
    }

    /// Floating-point operations of training on one token: six per weight, and attention over full rows
    /// ([`vulpes_model::flops_per_token`]); the same formula for pairs and adapters.
    pub fn flops_per_token(&self) -> f64 {
        vulpes_model::flops_per_token(&self.model, self.dataset.longest_row())
    }

    /// The number of rows of a step.
    pub(super) fn rows_per_step(&self) -> u64 {
        let train = &self.config.train;
        (train.batch_rows as u64).saturating_mul(train.accumulate as u64)
    }

    /// The maximum number of tokens that a step reads.
    pub fn tokens_per_step(&self) -> u64 {
        let texts = texts_of_row(&self.config.objective) as u64;
        self.rows_per_step().saturating_mul(texts).saturating_mul(self.dataset.longest_row() as u64)
    }
}
