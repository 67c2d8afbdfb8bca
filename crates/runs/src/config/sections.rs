//! `[train]`, and what may stand in it, in `[optimizer]` and in `[schedule]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_trainer::freeze::glob;
use vulpes_trainer::{OnSpike, OptimizerConfig, OptimizerKind, ScheduleConfig, ScheduleKind, StateDtype};

use super::fault::Fault;

/// The number format of parameters and arithmetic.
///
/// The short names `"f32"`, `"f64"` and `"bf16"` are understood, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DTypeName {
    /// IEEE binary32.
    #[serde(alias = "f32")]
    Float32,
    /// IEEE binary64.
    #[serde(alias = "f64")]
    Float64,
    /// float32, with the factors of the projections' matrix products rounded to bfloat16: about twice as fast on a
    /// processor with AVX512-BF16, slower on others. Weights, sums, moments, norms, attention and loss stay float32.
    /// On the CPU only.
    #[serde(alias = "bf16")]
    Bfloat16,
}

/// What to do when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFullDisk {
    /// Keep what is whole, say so, and exit with 1.
    Stop,
    /// Say so, and try again until there is room.
    Wait,
}

/// `[train]`: the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows of one micro-batch.
    pub batch_rows: usize,
    /// Micro-batches of one step.
    pub accumulate: usize,
    /// Shards that a micro-batch is cut into; decided by the sizes where absent, never by the threads. The shards of all
    /// micro-batches of a step are what several processes share out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// The most tokens of a row, up to the model's context; the whole context where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_len: Option<usize>,
    /// The seed of every random stream.
    pub seed: u64,
    /// Threads; the machine's cores where absent. Any number gives the same bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The number format.
    pub dtype: DTypeName,
    /// Whether the inside of each block is computed again in the backward pass instead of kept: less memory, a longer
    /// step, the same bits.
    pub recompute: bool,
    /// `"scratch"`, or a model to start from: a folder, or a name on the hub (`ORG/NAME`, `ORG/NAME@REVISION`) that its cache
    /// has on this machine.
    pub init_from: String,
    /// Parameters that stay as they are: globs over their names, or over the names that the model's folder has for them.
    pub freeze: Vec<String>,
    /// Whether the rows come in a new random order each epoch; if not, in the order of the files.
    pub shuffle: bool,
    /// Steps between evaluations; 0 evaluates at the end only.
    pub eval_every: u64,
    /// Steps between checkpoints; 0 saves at the end only.
    pub checkpoint_every: u64,
    /// How many of the newest checkpoints are kept.
    pub keep_last: usize,
    /// How many of the best checkpoints are kept beside them.
    pub keep_best: usize,
    /// Steps between metrics lines.
    pub log_every: u64,
    /// Whether `film.jsonl` keeps what the model makes of the probes at the beginning and at each evaluation.
    pub film: bool,
    /// The sentences of the film, each with its answer as the last word.
    pub probes: Vec<String>,
    /// What a full disk does.
    pub on_full_disk: OnFullDisk,
    /// What a leap of the loss does.
    pub on_spike: OnSpike,
    /// A loss this many times the running mean is a leap, once `spike_after` steps have been averaged.
    pub spike_factor: f64,
    /// Steps before a leap can be told from the beginning of the run.
    pub spike_after: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_rows: 8,
            accumulate: 1,
            shards: None,
            max_len: None,
            seed: 1,
            threads: None,
            dtype: DTypeName::Float32,
            recompute: false,
            init_from: "scratch".to_owned(),
            freeze: Vec::new(),
            shuffle: true,
            eval_every: 100,
            checkpoint_every: 500,
            keep_last: 2,
            keep_best: 1,
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
    /// Whether the model is drawn anew, not read from a folder.
    pub fn is_from_scratch(&self) -> bool {
        self.init_from == "scratch"
    }
}

/// The values that are out of range by themselves or beside each other.
pub(super) fn faults(
    optimizer: &OptimizerConfig,
    schedule: &ScheduleConfig,
    train: &TrainConfig,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    optimizer_faults(optimizer, &mut faults);
    schedule_faults(optimizer, schedule, train, &mut faults);
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
        wrong(!(0.0..1.0).contains(&beta), "betas", beta, "must lie in [0, 1)");
    }
    wrong(!(o.eps.is_finite() && o.eps > 0.0), "eps", o.eps, "must be greater than 0");
    wrong(!(0.0..1.0).contains(&o.momentum), "momentum", o.momentum, "must lie in [0, 1)");
    wrong(
        !(o.weight_decay.is_finite() && o.weight_decay >= 0.0),
        "weight_decay",
        o.weight_decay,
        "must not be negative",
    );
    wrong(!(o.clip.is_finite() && o.clip >= 0.0), "clip", o.clip, "must not be negative (0 clips nothing)");
    if o.state_dtype == StateDtype::Bfloat16 && o.kind != OptimizerKind::Adamw {
        let title = "optimizer.state_dtype = \"bfloat16\" is for optimizer.kind = \"adamw\"";
        faults.push(Fault::new(title).on("optimizer.state_dtype", "").on("optimizer.kind", "not adamw"));
    }
}

fn schedule_faults(o: &OptimizerConfig, s: &ScheduleConfig, t: &TrainConfig, faults: &mut Vec<Fault>) {
    let total = s.total_steps.unwrap_or(t.steps);
    let total_key = if s.total_steps.is_some() { "schedule.total_steps" } else { "train.steps" };
    if !(s.min_lr.is_finite() && s.min_lr >= 0.0) {
        faults.push(Fault::value("schedule.min_lr", s.min_lr, "must not be negative"));
    } else if s.min_lr > o.lr {
        let title = format!("schedule.min_lr = {} is greater than optimizer.lr = {}", s.min_lr, o.lr);
        faults.push(Fault::new(title).on("schedule.min_lr", "the end").on("optimizer.lr", "the height"));
    }
    if s.total_steps == Some(0) {
        faults.push(Fault::value("schedule.total_steps", 0, "must be at least 1"));
    }
    if s.warmup_steps > total {
        let title = format!("schedule.warmup_steps = {} is more than {total_key} = {total}", s.warmup_steps);
        faults
            .push(Fault::new(title).on("schedule.warmup_steps", "the climb").on(total_key, "the whole way"));
    }
    match s.decay_steps {
        Some(_) if s.kind != ScheduleKind::Wsd => {
            let title = "schedule.decay_steps belongs to schedule.kind = \"wsd\"";
            faults.push(
                Fault::new(title).on("schedule.decay_steps", "without use").on("schedule.kind", "not wsd"),
            );
        }
        Some(decay) if s.warmup_steps <= total && decay > total - s.warmup_steps => {
            let title = format!(
                "schedule.decay_steps = {decay} and schedule.warmup_steps = {} are more than {total_key} = {total}",
                s.warmup_steps
            );
            faults.push(Fault::new(title).on("schedule.decay_steps", "").on(total_key, ""));
        }
        _ => {}
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
        let title = "train.film needs sentences to film: train.probes = [\"The quick brown fox jumps\"]";
        faults.push(Fault::new(title).on("train.film", "of what?"));
    }
    if !(t.spike_factor.is_finite() && t.spike_factor > 1.0) {
        faults.push(Fault::value("train.spike_factor", t.spike_factor, "must be greater than 1"));
    }
    if t.init_from.is_empty() {
        faults.push(
            Fault::new("train.init_from = \"\" names nothing")
                .on("train.init_from", "wanted \"scratch\" or a model folder"),
        );
    }
    for pattern in &t.freeze {
        if let Err(words) = glob(pattern) {
            let title = format!("train.freeze has {pattern:?}, which is no glob: {words}");
            faults.push(Fault::new(title).on("train.freeze", ""));
        }
    }
    // The safetensors and TOML formats hold whole numbers up to 2^63 - 1.
    for (key, value) in [("steps", t.steps), ("seed", t.seed)] {
        if value > i64::MAX as u64 {
            faults.push(Fault::value(&format!("train.{key}"), value, "must be below 2^63"));
        }
    }
}
