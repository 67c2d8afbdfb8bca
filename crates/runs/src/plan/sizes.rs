//! What a plan takes: parameters, memory, room on the disk.

use vulpes_model::parameter_specs;
use vulpes_trainer::Optimizer;

use super::Plan;

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

    /// Bytes that the run takes in memory: parameters, optimizer and gradients exactly, activations roughly.
    pub fn memory_bytes(&self) -> u64 {
        let (all, trained) = self.n_parameters();
        let per_trained = self.n_shards + 1;
        let m = &self.model;
        let at_once = self.n_shards.min(self.n_threads).max(1);
        let tokens = self.config.train.batch_rows.div_ceil(self.n_shards) * m.context_len * at_once;
        // A block keeps about ten tensors of the model's width a token, three of the feed-forward's, and its weights.
        let per_token =
            m.n_layer * (10 * m.d_model + 3 * m.d_ff + 2 * m.n_head * m.context_len) + 4 * m.d_model;
        ((all + trained * per_trained + self.n_optimizer_state() + tokens * per_token)
            * self.dtype.size_in_bytes()) as u64
    }

    /// The most tokens that one step reads.
    pub fn tokens_per_step(&self) -> u64 {
        (self.config.train.batch_rows * self.config.train.accumulate * self.model.context_len) as u64
    }
}
