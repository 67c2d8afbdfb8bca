//! The `[train]` section, and the rules of `[train]` and `[optimizer]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_trainer::freeze::glob;
use vulpes_trainer::{
    GradientDtype, MuonConfig, OnSpike, OptimizerConfig, OptimizerKind, StateDtype, TrainerOptions,
};

use super::fault::Fault;

/// The dtype of parameters and arithmetic.
///
/// The short names `"f32"`, `"f64"` and `"bf16"` are accepted, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DTypeName {
    /// IEEE binary32.
    #[serde(alias = "f32")]
    Float32,
    /// IEEE binary64.
    #[serde(alias = "f64")]
    Float64,
    /// float32, with the factors of the matrix products of projections and attention rounded to bfloat16: about twice as
    /// fast on a processor with AVX512-BF16, slower on others. Weights, sums, moments, norms, softmax and loss stay
    /// float32. On the CPU only.
    #[serde(alias = "bf16")]
    Bfloat16,
}

/// What to do when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFullDisk {
    /// Keep the intact checkpoints, report it, and exit with 1.
    Stop,
    /// Report it, and retry until there is space.
    Wait,
}

/// The metric that ranks evaluations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The lowest validation loss.
    #[default]
    Loss,
    /// The highest accuracy, of masked tokens or labels.
    Accuracy,
    /// The highest macro-F1, of labels.
    MacroF1,
    /// The highest recall@1, of pairs of texts.
    RecallAt1,
}

/// `[train]`: the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows per micro-batch.
    pub batch_rows: usize,
    /// Micro-batches per step.
    pub accumulate: usize,
    /// Micro-batches of the first steps, which grow linearly to `accumulate` over `accumulate_ramp_steps`; absent = no
    /// ramp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulate_from: Option<usize>,
    /// Steps of the ramp from `accumulate_from`.
    #[serde(skip_serializing_if = "is_zero")]
    pub accumulate_ramp_steps: u64,
    /// Shards of a micro-batch; absent = decided by the sizes, never by the threads. Several processes divide the
    /// shards of all micro-batches of a step among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// The maximum tokens of a row, up to the model's context; absent = the entire context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_len: Option<usize>,
    /// The length of the pieces that rows are cut into in the first steps; it doubles at equal intervals over
    /// `len_ramp_steps` up to the full length. Absent = full rows throughout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len_from: Option<usize>,
    /// Steps of the ramp from `len_from`.
    #[serde(skip_serializing_if = "is_zero")]
    pub len_ramp_steps: u64,
    /// The seed of every random stream.
    pub seed: u64,
    /// Threads; absent = the machine's cores. The results are bit-identical for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The dtype.
    pub dtype: DTypeName,
    /// Whether the activations of each block are recomputed in the backward pass instead of kept: less memory, slower
    /// steps, the same bits.
    pub recompute: bool,
    /// The dtype in which gradients are kept for the optimizer, on the CPU.
    pub gradient_dtype: GradientDtype,
    /// `"scratch"`, or a model to start from: a folder, or a name on the hub (`ORG/NAME`, `ORG/NAME@REVISION`) in the
    /// hub's cache on this machine.
    pub init_from: String,
    /// An adapter for the model of `init_from`: a folder in PEFT's format, or a run that trained one. With `[adapter]`
    /// it is trained further, else it is merged before the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Frozen parameters: globs that match their names, or their names in the model's folder.
    pub freeze: Vec<String>,
    /// Whether the rows are shuffled each epoch; otherwise they come in the order of the files.
    pub shuffle: bool,
    /// Steps between evaluations; 0 evaluates at the end only.
    pub eval_every: u64,
    /// Steps between checkpoints; 0 saves at the end only.
    pub checkpoint_every: u64,
    /// The number of newest checkpoints that are kept.
    pub keep_last: usize,
    /// The number of best checkpoints that are kept in addition.
    pub keep_best: usize,
    /// The metric that decides which checkpoint is the best, and `patience`.
    pub metric: Metric,
    /// Evaluations without a better `metric` after which a run ends early; absent = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
    /// The validation loss at which a run ends early; absent = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_loss: Option<f64>,
    /// The time budget in minutes, reading the data and evaluating included: `steps` is then the maximum, and the
    /// cooldown (`schedule.kind = "wsd"`) begins when its share of the time is left. The decision is in the checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_minutes: Option<f64>,
    /// Decay of the exponential moving average of the weights (such as 0.99), which is evaluated and saved instead of
    /// the weights. Absent = no average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Prompts that are continued at each evaluation, with the settings of `[sample]`, in `samples.jsonl`.
    pub prompts: Vec<String>,
    /// Steps between metrics lines.
    pub log_every: u64,
    /// Whether `film.jsonl` records the model's predictions for the probes at the beginning and at each evaluation.
    pub film: bool,
    /// The sentences of the film, each with its answer as the last word.
    pub probes: Vec<String>,
    /// What to do when the disk is full.
    pub on_full_disk: OnFullDisk,
    /// What to do on a loss spike.
    pub on_spike: OnSpike,
    /// A loss this many times the running mean is a spike, once `spike_after` steps have been averaged.
    pub spike_factor: f64,
    /// Steps at the beginning of the run that never count as spikes.
    pub spike_after: u64,
}

fn is_zero(steps: &u64) -> bool {
    *steps == 0
}

impl Default for TrainConfig {
    fn default() -> Self {
        // Defined once, for custom programs, too.
        let TrainerOptions { steps, batch_rows, accumulate, seed, .. } = TrainerOptions::default();
        Self {
            steps,
            batch_rows,
            accumulate,
            accumulate_from: None,
            accumulate_ramp_steps: 0,
            shards: None,
            max_len: None,
            len_from: None,
            len_ramp_steps: 0,
            seed,
            threads: None,
            dtype: DTypeName::Float32,
            recompute: false,
            gradient_dtype: GradientDtype::Full,
            init_from: "scratch".to_owned(),
            adapter: None,
            freeze: Vec::new(),
            shuffle: true,
            eval_every: 100,
            checkpoint_every: 500,
            keep_last: 2,
            keep_best: 1,
            metric: Metric::Loss,
            patience: None,
            until_loss: None,
            budget_minutes: None,
            ema: None,
            prompts: Vec::new(),
            log_every: 1,
            film: false,
            probes: Vec::new(),
            on_full_disk: OnFullDisk::Stop,
            on_spike: OnSpike::Keep,
            spike_factor: 3.0,
            spike_after: 50,
        }
    }
}

impl TrainConfig {
    /// Whether the model is initialized randomly, not read from a folder.
    pub fn is_from_scratch(&self) -> bool {
        self.init_from == "scratch"
    }
}

/// The values that are out of range, by themselves or in combination.
pub(super) fn faults(optimizer: &OptimizerConfig, train: &TrainConfig) -> Vec<Fault> {
    let mut faults = Vec::new();
    optimizer_faults(optimizer, &mut faults);
    gradient_faults(optimizer, train, &mut faults);
    train_faults(train, &mut faults);
    faults
}

fn optimizer_faults(o: &OptimizerConfig, faults: &mut Vec<Fault>) {
    let mut wrong = |bad: bool, key: &str, value: f64, wanted: &str| {
        if bad {
            faults.push(Fault::value(&format!("optimizer.{key}"), value, wanted));
        }
    };
    wrong(!(o.lr.is_finite() && o.lr > 0.0), "lr", o.lr, "must be greater than 0");
    for beta in o.betas {
        wrong(!(0.0..1.0).contains(&beta), "betas", beta, "must be in [0, 1)");
    }
    wrong(!(o.eps.is_finite() && o.eps > 0.0), "eps", o.eps, "must be greater than 0");
    wrong(!(0.0..1.0).contains(&o.momentum), "momentum", o.momentum, "must be in [0, 1)");
    wrong(
        !(o.weight_decay.is_finite() && o.weight_decay >= 0.0),
        "weight_decay",
        o.weight_decay,
        "must not be negative",
    );
    wrong(!(o.clip.is_finite() && o.clip >= 0.0), "clip", o.clip, "must not be negative (0 = no clipping)");
    let mut wrong = |is_wrong: bool, key: &str, value: f64, wanted: &str| {
        if is_wrong {
            faults.push(Fault::value(&format!("optimizer.muon.{key}"), value, wanted));
        }
    };
    let m = &o.muon;
    wrong(!(m.lr.is_finite() && m.lr > 0.0), "lr", m.lr, "must be greater than 0");
    wrong(!(0.0..1.0).contains(&m.momentum), "momentum", m.momentum, "must be in [0, 1)");
    wrong(
        !(m.weight_decay.is_finite() && m.weight_decay >= 0.0),
        "weight_decay",
        m.weight_decay,
        "must not be negative",
    );
    if let Some(from) = m.momentum_from {
        wrong(!(0.0..1.0).contains(&from), "momentum_from", from, "must be in [0, 1)");
    }
    if m.momentum_from.is_some() != (m.momentum_steps > 0) {
        let title = "optimizer.muon.momentum_from and optimizer.muon.momentum_steps go together";
        faults.push(Fault::new(title).on("optimizer.muon", "one of them is missing"));
    }
    if o.kind != OptimizerKind::Muon && *m != MuonConfig::default() {
        let title = "[optimizer.muon] requires optimizer.kind = \"muon\"";
        faults.push(Fault::new(title).on("optimizer.muon", "").on("optimizer.kind", "not muon"));
    }
    for group in &o.groups {
        if !(group.lr.is_finite() && group.lr >= 0.0) {
            faults.push(Fault::value("optimizer.groups", group.lr, "is an invalid lr; it must be 0 or more"));
        }
        if group.weight_decay.is_some_and(|decay| !(decay.is_finite() && decay >= 0.0)) {
            let title = "optimizer.groups has a negative weight_decay";
            faults.push(Fault::new(title).on("optimizer.groups", "must not be negative"));
        }
        for pattern in &group.parameters {
            if let Err(message) = glob(pattern) {
                let title = format!("optimizer.groups has {pattern:?}, which is not a valid glob: {message}");
                faults.push(Fault::new(title).on("optimizer.groups", ""));
            }
        }
    }
    if o.state_dtype == StateDtype::Bfloat16 && o.kind != OptimizerKind::Adamw {
        let title = "optimizer.state_dtype = \"bfloat16\" requires optimizer.kind = \"adamw\"";
        faults.push(Fault::new(title).on("optimizer.state_dtype", "").on("optimizer.kind", "not adamw"));
    }
}

fn gradient_faults(o: &OptimizerConfig, t: &TrainConfig, faults: &mut Vec<Fault>) {
    if t.gradient_dtype != GradientDtype::Bfloat16 {
        return;
    }
    let what = "train.gradient_dtype = \"bfloat16\" requires";
    if o.kind != OptimizerKind::Adamw {
        let title = format!("{what} optimizer.kind = \"adamw\"");
        faults.push(Fault::new(title).on("train.gradient_dtype", "").on("optimizer.kind", "not adamw"));
    }
    if t.dtype == DTypeName::Float64 {
        let title = format!("{what} train.dtype = \"float32\" or \"bfloat16\"");
        faults.push(Fault::new(title).on("train.gradient_dtype", "").on("train.dtype", "not float64"));
    }
}

fn train_faults(t: &TrainConfig, faults: &mut Vec<Fault>) {
    let mut least_one = |key: &str, value: Option<u64>| {
        if value == Some(0) {
            faults.push(Fault::value(&format!("train.{key}"), 0, "must be at least 1"));
        }
    };
    least_one("steps", Some(t.steps));
    least_one("batch_rows", Some(t.batch_rows as u64));
    least_one("accumulate", Some(t.accumulate as u64));
    least_one("shards", t.shards.map(|n| n as u64));
    least_one("max_len", t.max_len.map(|n| n as u64));
    least_one("patience", t.patience);
    least_one("accumulate_from", t.accumulate_from.map(|n| n as u64));
    least_one("len_from", t.len_from.map(|n| n as u64));
    least_one("threads", t.threads.map(|n| n as u64));
    least_one("keep_last", Some(t.keep_last as u64));
    least_one("log_every", Some(t.log_every));
    if t.shards.is_some_and(|shards| shards > t.batch_rows) {
        let title = format!(
            "train.shards = {} is more than train.batch_rows = {}",
            t.shards.unwrap_or(0),
            t.batch_rows
        );
        faults.push(
            Fault::new(title).on("train.shards", "each shard needs a row").on("train.batch_rows", "the rows"),
        );
    }
    if t.film && t.probes.is_empty() {
        let title = "train.film needs probes, such as train.probes = [\"The quick brown fox jumps\"]";
        faults.push(Fault::new(title).on("train.film", "no probes"));
    }
    if !(t.spike_factor.is_finite() && t.spike_factor > 1.0) {
        faults.push(Fault::value("train.spike_factor", t.spike_factor, "must be greater than 1"));
    }
    if t.init_from.is_empty() {
        faults.push(
            Fault::new("train.init_from is empty")
                .on("train.init_from", "expected \"scratch\" or a model folder"),
        );
    }
    for pattern in &t.freeze {
        if let Err(message) = glob(pattern) {
            let title = format!("train.freeze has {pattern:?}, which is not a valid glob: {message}");
            faults.push(Fault::new(title).on("train.freeze", ""));
        }
    }
    // The safetensors and TOML formats hold integers up to 2^63 - 1.
    for (key, value) in [("steps", t.steps), ("seed", t.seed)] {
        if value > i64::MAX as u64 {
            faults.push(Fault::value(&format!("train.{key}"), value, "must be below 2^63"));
        }
    }
}
