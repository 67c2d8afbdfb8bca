//! The timed training step: the trainer's step on a config's batches.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use vulpes_collective::Processes;
use vulpes_data::{Batch, Cursor};
use vulpes_model::config::Family;
use vulpes_model::folder;
use vulpes_model::{Decoder, Transformer, flops_per_token, n_read_by_token};
use vulpes_ops::reference::with_reference;
use vulpes_runs::{Plan, PlanOptions, RunConfig, Session};

use crate::process::fit_memory;

/// A config, its sizes, and its session if it is run.
pub(crate) struct StepBench {
    plan: &'static Plan,
    batches: Vec<Batch>,
    session: Option<Session<'static>>,
    plain: bool,
}

/// How a config's steps are run.
#[derive(Default)]
pub(crate) struct How<'a> {
    /// The dtype, if it isn't the config's.
    pub(crate) dtype: Option<&'a str>,
    /// Threads of this process; `None` = the config's.
    pub(crate) threads: Option<usize>,
    /// Only candle's plain operations, with its default threads.
    pub(crate) plain: bool,
    /// The device.
    pub(crate) device: &'a str,
    /// Shards per micro-batch, if it isn't the config's or the default.
    pub(crate) shards: Option<usize>,
    /// The processes that share them.
    pub(crate) processes: Processes,
    /// The folder of a frozen model whose adapter is trained instead of the config's model.
    pub(crate) finetune: Option<&'a str>,
}

/// The rank of the adapter that `--finetune` trains on every projection.
pub(crate) const RANK: usize = 8;

impl StepBench {
    /// Reads a config for its sizes alone.
    ///
    /// # Errors
    /// Returns an error if the config is wrong.
    pub(crate) fn sizes(config: &str, dtype: Option<&str>) -> Result<Self> {
        Self::open(config, &How { dtype, device: "cpu", ..How::default() })
    }

    /// Reads a config and creates its model, ready for steps.
    ///
    /// # Errors
    /// Returns an error if the config is wrong or memory runs out.
    pub(crate) fn start(config: &str, how: &How<'_>) -> Result<Self> {
        let mut bench = Self::open(config, how)?;
        bench.session = Some(Session::start(bench.plan)?.0);
        Ok(bench)
    }

    fn open(config: &str, how: &How<'_>) -> Result<Self> {
        let How { dtype, threads, plain, device, shards, ref processes, finetune } = *how;
        let (path, text) = vulpes_runs::find_config(Path::new(config))?;
        let mut overrides: Vec<String> = threads.map(|n| format!("train.threads={n}")).into_iter().collect();
        overrides.extend(dtype.map(|dtype| format!("train.dtype={dtype}")));
        overrides.extend(shards.map(|n| format!("train.shards={n}")));
        if plain {
            // Candle's operations start their own threads; the step itself stays on this thread.
            overrides.extend(["train.shards=1".into(), "train.threads=1".into()]);
        }
        if let Some(folder) = finetune {
            let narrow = matches!(dtype, Some("bf16" | "bfloat16"));
            overrides.push(format!("train.init_from={folder}"));
            overrides.push(format!("adapter.rank={RANK}"));
            overrides.push(format!("adapter.base_dtype={}", if narrow { "bfloat16" } else { "float32" }));
        }
        let config = RunConfig::parse(&path.display().to_string(), &text, &overrides)?;
        fit_memory(&config.train);
        let options = PlanOptions {
            device: Some(device.into()),
            processes: processes.clone(),
            ..PlanOptions::default()
        };
        // The plan lives as long as the process, which only times this config.
        let plan: &'static Plan = Box::leak(Box::new(Plan::new(config, &options, &())?));
        let train = &plan.config.train;
        let mut cursor = Cursor::default();
        let mut batches = Vec::new();
        for _ in 0..train.accumulate {
            batches.push(plan.dataset.batch(cursor, train.batch_rows)?);
            cursor = plan.dataset.advance(cursor, train.batch_rows as u64);
        }
        Ok(Self { plan, batches, session: None, plain })
    }

    /// Writes a randomly initialized model of the config's sizes into `dir`.
    ///
    /// # Errors
    /// Returns an error if memory or disk space runs out.
    pub(crate) fn write_model(&self, dir: &Path) -> Result<()> {
        let model = Transformer::init(&self.plan.model, 1, DType::F32, &Device::Cpu)?;
        Ok(folder::save(dir, &model, &folder::Extra::default())?)
    }

    /// The command line of PEFT's worker, except for the dtype.
    pub(crate) fn peft_arguments(&self, dir: &Path, threads: usize) -> Vec<String> {
        let train = &self.plan.config.train;
        let len = self.plan.dataset.longest_row();
        let numbers = [
            ("--rank", RANK),
            ("--context-len", len),
            ("--batch-rows", train.batch_rows * train.accumulate),
            ("--threads", threads),
        ];
        let sizes = numbers.into_iter().flat_map(|(name, n)| [name.to_owned(), n.to_string()]);
        ["--folder".to_owned(), dir.display().to_string()].into_iter().chain(sizes).collect()
    }

    /// Parts of a step that processes can share.
    pub(crate) fn n_leaves(&self) -> usize {
        self.plan.n_shards * self.batches.len()
    }

    /// MiB of the optimizer's state that this process keeps.
    pub(crate) fn optimizer_mib(&self) -> f64 {
        let bytes = self.session.as_ref().map_or(0, |session| session.training.optimizer_bytes());
        bytes as f64 / f64::from(1 << 20)
    }

    /// Does one step: gradients, norm, clip, update.
    ///
    /// # Errors
    /// Returns an error if the step fails, or its numbers are not finite.
    pub(crate) fn step(&mut self) -> Result<()> {
        let session = self.session.as_mut().context("the bench was opened for its sizes alone")?;
        let batches = &self.batches;
        let done = if self.plain {
            with_reference(|| session.training.advance(batches))
        } else {
            session.training.advance(batches)
        };
        done?;
        Ok(())
    }

    /// Generates `n` tokens one at a time, greedily, with a KV cache, as many as the context holds; returns the
    /// milliseconds of each.
    ///
    /// # Errors
    /// Returns an error if the model has no decoder, or an operation fails.
    pub(crate) fn generate(&mut self, n: usize, threads: usize) -> Result<Vec<f64>> {
        let model = self.transformer()?;
        let mut decoder = Decoder::new(&model, threads)?.context("this config's model has no decoder")?;
        let mut row = decoder.empty_row();
        let (mut token, mut times) = (1, Vec::new());
        for _ in 0..n.min(model.config().context_len - 1) {
            let start = std::time::Instant::now();
            let logits = decoder.step(&mut row, token)?;
            let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a });
            token = best.unwrap_or(0) as u32;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    }

    /// The model, without gradients.
    ///
    /// # Errors
    /// Returns an error if the bench was opened for its sizes alone.
    pub(crate) fn transformer(&self) -> Result<vulpes_model::Transformer> {
        let session = self.session.as_ref().context("the bench was opened for its sizes alone")?;
        Ok(session.transformer().without_gradients()?)
    }

    /// Bytes of the parameters read per token: all but the embedding tables that are looked up.
    pub(crate) fn bytes_per_token(&self) -> f64 {
        let numbers = n_read_by_token(&self.plan.model, |_| true);
        (numbers * 4) as f64
    }

    /// The maximum tokens of a row.
    pub(crate) fn context_len(&self) -> usize {
        self.plan.model.context_len
    }

    /// Tokens of one step.
    pub(crate) fn tokens(&self) -> usize {
        self.batches.iter().map(|batch| batch.rows * batch.len).sum()
    }

    /// Floating-point operations of one step's matrix products.
    pub(crate) fn flops(&self) -> f64 {
        let of =
            |batch: &Batch| (batch.rows * batch.len) as f64 * flops_per_token(&self.plan.model, batch.len);
        self.batches.iter().map(of).sum()
    }

    /// The sizes as arguments of the PyTorch worker.
    ///
    /// # Errors
    /// Returns an error if the worker can't match the config.
    pub(crate) fn torch_arguments(&self, threads: usize) -> Result<Vec<String>> {
        let (m, train) = (&self.plan.model, &self.plan.config.train);
        if m.family != Family::Gpt2 || m.dropout > 0.0 || train.accumulate > 1 || m.d_ff != 4 * m.d_model {
            bail!("the PyTorch worker supports family = \"gpt2\" without dropout or accumulation only");
        }
        let sizes = [
            ("n-layer", m.n_layer),
            ("n-head", m.n_head),
            ("d-model", m.d_model),
            ("context-len", m.context_len),
            ("batch-rows", train.batch_rows),
            ("vocab-size", m.vocab_size),
            ("threads", threads),
        ];
        Ok(sizes.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]).collect())
    }
}
