//! What a plan takes: parameters, memory, room on the disk.

use vulpes_model::parameter_specs;
use vulpes_trainer::Optimizer;

use super::Plan;
use super::pairs::texts_of_row;

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

    /// Bytes that a checkpoint takes on disk, within a few thousand.
    pub fn checkpoint_bytes(&self) -> u64 {
        let (all, _) = self.n_parameters();
        let numbers = all + self.n_optimizer_state();
        let files: usize = self.tokenizer_files().map(|(_, bytes)| bytes.len()).sum();
        let tokenizer = files + self.dataset.tokenizer().map_or(0, |tokenizer| tokenizer.to_json().len());
        (numbers * self.dtype.size_in_bytes() + tokenizer + 64 * 1024) as u64
    }

    /// Bytes that parameters, gradients and optimizer take in memory, exactly.
    pub(super) fn fixed_bytes(&self) -> u64 {
        let (all, trained) = self.n_parameters();
        let per_trained = self.n_shards as u128 + 1;
        let numbers = all as u128 + trained as u128 * per_trained + self.n_optimizer_state() as u128;
        self.bytes_of(numbers)
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
        let per_token = wide(m.n_layer) * of_block + 4 * wide(m.d_model);
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
