//! Training is bit-identical on any number of processes. Processes are threads here; other tests use `mpirun`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{DType, Device};
use vulpes_collective::{Processes, threads};
use vulpes_data::{Batch, Batches, Cursor, DataConfig, Dataset, ObjectiveConfig, OpenOptions, Rank};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer};
use vulpes_trainer::{
    GradientDtype, OnSpike, OptimizerConfig, OptimizerKind, Precision, STACK_BYTES, Schedule, ScheduleConfig,
    SpikeRule, State, StateDtype, Training, TrainingOptions,
};

/// A training, except for its processes.
#[derive(Clone, Copy, Debug)]
struct Case {
    optimizer: OptimizerKind,
    n_shards: usize,
    accumulate: usize,
    rows: usize,
    masked: bool,
    dtype: DType,
    state: StateDtype,
    n_threads: usize,
}

const STEPS: usize = 3;

impl Case {
    /// Rows of documents of very unequal lengths.
    fn dataset(&self) -> Arc<Dataset> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/fox.txt");
        let data: DataConfig = serde_json::from_value(serde_json::json!({
            "train": [root], "document": "line", "rows": "documents", "kind": "text",
            "tokenizer": { "kind": "word" },
        }))
        .unwrap();
        let objective = if self.masked { "masked_token" } else { "next_token" };
        let objective: ObjectiveConfig =
            serde_json::from_value(serde_json::json!({ "kind": objective })).unwrap();
        Arc::new(Dataset::open(&data, &objective, &OpenOptions::new(16, 7)).unwrap())
    }

    fn model(&self, vocab: usize) -> Transformer {
        let section = ModelSection {
            family: Some(if self.masked { Family::Bert } else { Family::Gpt2 }),
            n_layer: Some(1),
            n_head: Some(2),
            // Wide enough that tensors are cut within, too.
            d_model: Some(32),
            d_ff: Some(640),
            context_len: Some(16),
            dropout: Some(0.2),
            ..ModelSection::default()
        };
        let config = section.resolve(vocab, if self.masked { Head::MaskedToken } else { Head::NextToken });
        Transformer::init(&config, 1, self.dtype, &Device::Cpu).unwrap()
    }

    /// Trains as one of the processes; returns the digest and the bytes of optimizer state that it keeps.
    fn train(&self, dataset: &Arc<Dataset>, processes: Processes) -> (String, usize) {
        let model = self.model(dataset.vocab_size());
        let (kind, state_dtype) = (self.optimizer, self.state);
        let optimizer =
            OptimizerConfig { kind, clip: 0.1, lr: 1e-2, state_dtype, ..OptimizerConfig::default() };
        let options = TrainingOptions {
            schedule: Schedule::new(&ScheduleConfig::default(), optimizer.lr, STEPS as u64),
            optimizer,
            average: None,
            frozen: BTreeSet::from(["blocks.0.feed_forward.norm.weight".to_owned()]),
            spike: SpikeRule { then: OnSpike::Keep, factor: 3.0, after: 2 },
            label_smoothing: 0.1,
            n_shards: self.n_shards,
            n_threads: self.n_threads,
            processes,
            precision: Precision::Float32,
            recompute: self.state != StateDtype::Full,
            gradient_dtype: GradientDtype::Full,
            seed: 5,
            contrast: None,
            class_weights: Vec::new(),
        };
        let mut training = Training::new(&model, options, State::start()).unwrap();
        let mut batches = Batches::new(dataset.clone(), Cursor::default(), self.rows, Rank::default());
        for _ in 0..STEPS {
            let micro: Vec<Batch> = (0..self.accumulate).map(|_| batches.next_batch().unwrap()).collect();
            let numbers = training.advance(&micro).unwrap();
            assert!(numbers.grad_norm > 0.1, "the norm is to be clipped");
        }
        let found =
            training.evaluate((0..5).map(|at| dataset.batch(Cursor { epoch: 0, index: 7 * at }, 3))).unwrap();
        let digest = format!("{} {:x} {}", training.digest().unwrap(), found.loss.to_bits(), found.n_targets);
        (digest, training.optimizer_bytes())
    }

    /// The digest of each of `size` processes, and the most bytes of optimizer state that one keeps.
    fn by(&self, size: usize) -> (Vec<String>, usize) {
        let dataset = self.dataset();
        std::thread::scope(|scope| {
            let running: Vec<_> = threads(size)
                .into_iter()
                .map(|processes| {
                    let dataset = &dataset;
                    let run = move || self.train(dataset, processes);
                    std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, run).unwrap()
                })
                .collect();
            let found = running.into_iter().map(|thread| thread.join().unwrap());
            let (digests, kept): (Vec<String>, Vec<usize>) = found.unzip();
            (digests, kept.into_iter().max().unwrap())
        })
    }

    fn holds(&self) {
        let (one, whole) = self.by(1);
        for size in [2, 3, 4, 5, 8].into_iter().filter(|size| *size <= self.n_shards * self.accumulate) {
            let (digests, kept) = self.by(size);
            for digest in &digests {
                assert_eq!(*digest, one[0], "{size} processes, {self:?}");
            }
            // Cut at blocks, so slices differ by one at most.
            assert!(
                kept <= whole / size + 2 * 16 * 1024 * size_of::<f64>(),
                "one of {size} keeps {kept} of {whole} bytes"
            );
        }
    }
}

const CASE: Case = Case {
    optimizer: OptimizerKind::Adamw,
    n_shards: 4,
    accumulate: 1,
    rows: 11,
    masked: false,
    dtype: DType::F32,
    state: StateDtype::Full,
    n_threads: 1,
};

#[test]
fn adamw_is_bit_identical_on_any_number_of_processes() {
    for n_shards in [1, 4, 6, 8] {
        Case { n_shards, ..CASE }.holds();
        Case { n_shards, accumulate: 2, rows: 6, ..CASE }.holds();
    }
}

#[test]
fn sgd_is_bit_identical_on_any_number_of_processes() {
    for n_shards in [1, 4, 6, 8] {
        Case { n_shards, optimizer: OptimizerKind::Sgd, accumulate: 3, rows: 5, ..CASE }.holds();
    }
}

/// Muon needs entire matrices: slices end between them and are less even.
#[test]
fn muon_is_bit_identical_on_any_number_of_processes() {
    for (n_shards, size) in [(4, 2), (4, 4), (6, 3), (6, 5)] {
        let case = Case { n_shards, optimizer: OptimizerKind::Muon, accumulate: 2, rows: 6, ..CASE };
        let one = &case.by(1).0[0];
        assert!(case.by(size).0.iter().all(|digest| digest == one), "{size} processes, {case:?}");
    }
}

#[test]
fn masked_rows_are_bit_identical_on_any_number_of_processes() {
    for n_shards in [4, 6] {
        Case { n_shards, masked: true, accumulate: 2, ..CASE }.holds();
    }
}

/// Fewer rows than shards: some leaves are empty, and some processes have only empty ones.
#[test]
fn fewer_rows_than_shards_are_bit_identical_on_any_number_of_processes() {
    Case { n_shards: 8, rows: 3, ..CASE }.holds();
}

#[test]
fn float64_is_bit_identical_on_any_number_of_processes_and_threads() {
    Case { n_shards: 6, dtype: DType::F64, n_threads: 2, ..CASE }.holds();
    let case = Case { n_shards: 3, accumulate: 3, n_threads: 3, ..CASE };
    case.holds();
    assert_eq!(case.by(1).0, Case { n_threads: 1, ..case }.by(1).0);
}

/// Rounded moment estimates, and activations recomputed in the backward pass.
#[test]
fn a_bfloat16_state_is_rounded_alike_on_any_number_of_processes() {
    let case = Case { state: StateDtype::Bfloat16, n_threads: 2, ..CASE };
    case.holds();
    assert_ne!(case.by(1).0, Case { state: StateDtype::Full, ..case }.by(1).0);
}

#[test]
fn more_processes_than_leaves_are_refused_on_each() {
    let case = Case { n_shards: 2, ..CASE };
    let dataset = case.dataset();
    let errors: Vec<String> = std::thread::scope(|scope| {
        let run = |processes: Processes| {
            let model = case.model(dataset.vocab_size());
            let options = TrainingOptions {
                optimizer: OptimizerConfig::default(),
                schedule: Schedule::new(&ScheduleConfig::default(), 1e-3, 1),
                average: None,
                frozen: BTreeSet::new(),
                spike: SpikeRule { then: OnSpike::Keep, factor: 3.0, after: 2 },
                label_smoothing: 0.0,
                n_shards: 2,
                n_threads: 1,
                processes,
                precision: Precision::Float32,
                recompute: false,
                gradient_dtype: GradientDtype::Full,
                seed: 5,
                contrast: None,
                class_weights: Vec::new(),
            };
            let mut training = Training::new(&model, options, State::start()).unwrap();
            let batch = dataset.batch(Cursor::default(), 4).unwrap();
            training.advance(&[batch]).map(|_| ()).unwrap_err().to_string()
        };
        let running: Vec<_> = threads(3).into_iter().map(|own| scope.spawn(move || run(own))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(errors, vec!["3 processes are too many: a step has only 2 parts"; 3]);
}
