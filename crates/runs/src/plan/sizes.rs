//! What a plan takes: parameters, memory, room on the disk.

use vulpes_collective::leaves_of;
use vulpes_model::parameter_specs;
use vulpes_trainer::{Optimizer, n_gradients};

use super::Plan;
use super::pairs::texts_of_row;
use crate::error::{Error, Result};

impl Plan {
    /// How many numbers the parameters are, and how many of them are trained.
    pub fn n_parameters(&self) -> (usize, usize) {
        parameter_specs(&self.model).iter().fold((0, 0), |(all, trained), spec| {
            let n = spec.numel();
            (all + n, trained + if self.is_trainable(&spec.name) { n } else { 0 })
        })
    }

    /// The number of elements of the optimizer's state.
    fn n_optimizer_state(&self) -> usize {
        let specs = parameter_specs(&self.model);
        let trained = specs.iter().filter(|spec| self.is_trainable(&spec.name));
        trained.map(|spec| Optimizer::state_numel(&self.config.optimizer, spec)).sum()
    }

    /// Bytes of a number of the optimizer's state.
    fn state_bytes(&self) -> usize {
        self.config.optimizer.state_dtype.of(self.dtype).size_in_bytes()
    }

    /// Bytes that a checkpoint takes on disk, within a few thousand.
    pub fn checkpoint_bytes(&self) -> u64 {
        let (all, _) = self.n_parameters();
        let state = self.n_optimizer_state() * self.state_bytes();
        let files: usize = self.tokenizer_files().map(|(_, bytes)| bytes.len()).sum();
        let tokenizer = files + self.dataset.tokenizer().map_or(0, |tokenizer| tokenizer.to_json().len());
        (all * self.dtype.size_in_bytes() + state + tokenizer + 64 * 1024) as u64
    }

    /// Bytes that parameters, gradients and optimizer take in memory on one process, exactly.
    pub(super) fn fixed_bytes(&self) -> u64 {
        let (all, trained) = self.n_parameters();
        let (size, n_leaves) = (self.processes.size(), self.n_leaves());
        let leaves = leaves_of(self.processes.rank(), size, n_leaves);
        let per_trained = n_gradients(leaves, n_leaves, self.n_shards, self.n_threads) as u128 + 1;
        let state = self.n_optimizer_state().div_ceil(size) * self.state_bytes();
        self.bytes_of(all as u128 + trained as u128 * per_trained).saturating_add(state as u64)
    }

    /// Whether the rows of a step are told from each other.
    fn is_of_pairs(&self) -> bool {
        texts_of_row(&self.config.objective) > 1
    }

    /// The parts of a step that processes can share.
    fn n_leaves(&self) -> usize {
        // A step of pairs has one loss: its shards go through all micro-batches.
        let of_each = if self.is_of_pairs() { 1 } else { self.config.train.accumulate };
        self.n_shards.saturating_mul(of_each)
    }

    /// Makes sure that each process has a part of a step.
    pub(super) fn check_processes(&self) -> Result<()> {
        let (size, n_leaves) = (self.processes.size(), self.n_leaves());
        if self.is_of_pairs() && size > 1 {
            return Err(Error::Usage(vulpes_trainer::Error::PairsOfProcesses { size }.to_string()));
        }
        if size <= n_leaves {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{size} processes are too many: a step of this config has {n_leaves} parts to share out (train.accumulate = {}, \
             times {} shards a micro-batch), and a process without one would only wait; start at most {n_leaves}, or raise \
             train.shards (at most the rows of a micro-batch, {}) or train.accumulate, which makes another run",
            self.config.train.accumulate, self.n_shards, self.config.train.batch_rows
        )))
    }

    /// Bytes that the run takes in memory: parameters, optimizer and gradients exactly, activations roughly.
    pub fn memory_bytes(&self) -> u64 {
        let wide = |n: usize| n as u128;
        let m = &self.model;
        let longest = self.dataset.longest_row();
        let train = &self.config.train;
        let texts = texts_of_row(&self.config.objective);
        // The tapes of all shards are kept where a step's rows are told from each other.
        let waits = texts > 1 && train.accumulate == 1;
        let at_once = if waits { self.n_shards } else { self.n_shards.min(self.n_threads).max(1) };
        let rows = train.batch_rows.saturating_mul(texts).div_ceil(self.n_shards);
        let tokens = wide(rows) * wide(longest) * wide(at_once);
        // A block keeps about ten tensors of the model's width a token, three of the feed-forward's, and its weights.
        let of_block = 10 * wide(m.d_model) + 3 * wide(m.d_ff) + 2 * wide(m.n_head) * wide(longest);
        // Recomputed, every block keeps what it reads, and one at a time all of it.
        let per_token = match self.config.train.recompute {
            true => wide(m.n_layer) * wide(m.d_model) + of_block + 4 * wide(m.d_model),
            false => wide(m.n_layer) * of_block + 4 * wide(m.d_model),
        };
        self.fixed_bytes().saturating_add(self.bytes_of(tokens.saturating_mul(per_token)))
    }

    /// Bytes of so many numbers; the greatest that there is where they are more.
    fn bytes_of(&self, numbers: u128) -> u64 {
        u64::try_from(numbers.saturating_mul(self.dtype.size_in_bytes() as u128)).unwrap_or(u64::MAX)
    }

    /// The rows of one step.
    pub(super) fn rows_per_step(&self) -> u64 {
        let train = &self.config.train;
        (train.batch_rows as u64).saturating_mul(train.accumulate as u64)
    }

    /// The most tokens that one step reads.
    pub fn tokens_per_step(&self) -> u64 {
        let texts = texts_of_row(&self.config.objective) as u64;
        self.rows_per_step().saturating_mul(texts).saturating_mul(self.dataset.longest_row() as u64)
    }
}
