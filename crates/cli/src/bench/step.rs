//! The training step that is timed: the trainer's own, on a config's own batches.

use std::path::Path;

use anyhow::{Context, Result, bail};
use vulpes_collective::Processes;
use vulpes_data::{Batch, Cursor};
use vulpes_model::config::{Family, MaskKind};
use vulpes_model::{Decoder, Kind, ModelConfig, ParameterSpec, Part, parameter_specs};
use vulpes_ops::reference::with_reference;
use vulpes_runs::{Plan, PlanOptions, RunConfig, Session};

/// A config, its sizes, and where it is run, its session.
pub(crate) struct StepBench {
    plan: &'static Plan,
    batches: Vec<Batch>,
    session: Option<Session<'static>>,
    plain: bool,
}

/// How a config's steps are run.
#[derive(Default)]
pub(crate) struct How<'a> {
    /// What they compute in, where it isn't the config's.
    pub(crate) dtype: Option<&'a str>,
    /// Threads of this process; the config's where it isn't given.
    pub(crate) threads: Option<usize>,
    /// Without any operation of our own: candle's operations alone, its threads as they are.
    pub(crate) plain: bool,
    /// Where.
    pub(crate) device: &'a str,
    /// Shards of a micro-batch, where it isn't the config's or the default.
    pub(crate) shards: Option<usize>,
    /// The processes that share them.
    pub(crate) processes: Processes,
}

impl StepBench {
    /// Reads a config for its sizes alone.
    ///
    /// # Errors
    /// When the config is wrong.
    pub(crate) fn sizes(config: &str, dtype: Option<&str>) -> Result<Self> {
        Self::open(config, &How { dtype, device: "cpu", ..How::default() })
    }

    /// Reads a config and makes its model, ready for steps.
    ///
    /// # Errors
    /// When the config is wrong or there is no room.
    pub(crate) fn start(config: &str, how: &How<'_>) -> Result<Self> {
        let mut bench = Self::open(config, how)?;
        bench.session = Some(Session::start(bench.plan)?.0);
        Ok(bench)
    }

    fn open(config: &str, how: &How<'_>) -> Result<Self> {
        let How { dtype, threads, plain, device, shards, ref processes } = *how;
        let (path, text) = vulpes_runs::find_config(Path::new(config))?;
        let mut overrides: Vec<String> = threads.map(|n| format!("train.threads={n}")).into_iter().collect();
        overrides.extend(dtype.map(|dtype| format!("train.dtype={dtype}")));
        overrides.extend(shards.map(|n| format!("train.shards={n}")));
        if plain {
            // Candle's operations start their own threads; the step itself stays on this one, which the setting is of.
            overrides.extend(["train.shards=1".into(), "train.threads=1".into()]);
        }
        let config = RunConfig::parse(&path.display().to_string(), &text, &overrides)?;
        let options = PlanOptions {
            device: Some(device.into()),
            processes: processes.clone(),
            ..PlanOptions::default()
        };
        // The plan lives as long as the process, which exists to time this one config.
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

    /// Parts of a step that processes can share.
    pub(crate) fn n_leaves(&self) -> usize {
        self.plan.n_shards * self.batches.len()
    }

    /// MiB of the optimizer's state that this process keeps.
    pub(crate) fn optimizer_mib(&self) -> f64 {
        let numel = self.session.as_ref().map_or(0, |session| session.training.optimizer_numel());
        (numel * self.plan.dtype.size_in_bytes()) as f64 / f64::from(1 << 20)
    }

    /// Does one step: gradients, norm, clip, update.
    ///
    /// # Errors
    /// When the step fails, or its numbers are not finite.
    pub(crate) fn step(&mut self) -> Result<()> {
        let session = self.session.as_mut().context("the bench was opened for its sizes alone")?;
        let batches = &self.batches;
        let done = if self.plain {
            with_reference(|| session.training.advance(batches))
        } else {
            session.training.advance(batches)
        };
        match done? {
            Ok(_) => Ok(()),
            Err(failed) => bail!("{}", failed.words),
        }
    }

    /// Makes `n` tokens one at a time from a cache, greedily, as many as the context holds; milliseconds of each.
    ///
    /// # Errors
    /// When the model has no decoder, or an operation fails.
    pub(crate) fn generate(&mut self, n: usize, threads: usize) -> Result<Vec<f64>> {
        let session = self.session.as_ref().context("the bench was opened for its sizes alone")?;
        let model = session.transformer().without_gradients()?;
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

    /// Bytes of the parameters that every token reads: all but the rows of tables that are looked up.
    pub(crate) fn bytes_per_token(&self) -> f64 {
        let numbers: usize = in_products(&self.plan.model, |_| true);
        (numbers * 4) as f64
    }

    /// Tokens that a row has room for.
    pub(crate) fn context_len(&self) -> usize {
        self.plan.model.context_len
    }

    /// Tokens of one step.
    pub(crate) fn tokens(&self) -> usize {
        self.batches.iter().map(|batch| batch.rows * batch.len).sum()
    }

    /// Floating-point operations of one step's matrix products.
    pub(crate) fn flops(&self) -> f64 {
        self.batches.iter().map(|batch| flops_per_step(&self.plan.model, batch.rows, batch.len)).sum()
    }

    /// The sizes as the PyTorch worker takes them.
    ///
    /// # Errors
    /// When the config is none that the worker can match.
    pub(crate) fn torch_arguments(&self, threads: usize) -> Result<Vec<String>> {
        let (m, train) = (&self.plan.model, &self.plan.config.train);
        if m.family != Family::Gpt2 || m.dropout > 0.0 || train.accumulate > 1 || m.d_ff != 4 * m.d_model {
            bail!("the PyTorch worker matches family = \"gpt2\" without dropout or accumulation only");
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

/// The number of elements of those parameters that `counts` and that a token reads as a whole: all but tables that are
/// looked up by row, and those too where the head is tied to them.
fn in_products(model: &ModelConfig, counts: impl Fn(&ParameterSpec) -> bool) -> usize {
    let whole = |spec: &&ParameterSpec| {
        spec.role.kind != Kind::Embedding || (model.tied_head && spec.role.part == Part::Token)
    };
    parameter_specs(model).iter().filter(whole).filter(|spec| counts(spec)).map(ParameterSpec::numel).sum()
}

/// Floating-point operations of the matrix products of one training step: `6 N` a token for N weights in products
/// ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361), sec. 2.1), and `12 t h k` a token and layer for
/// attention over t keys, half of it under a causal mask.
///
/// # Units
/// Operations; an addition and a multiplication are two.
pub(crate) fn flops_per_step(model: &ModelConfig, rows: usize, len: usize) -> f64 {
    let in_products =
        in_products(model, |spec| spec.role.kind != Kind::Scale && spec.role.kind != Kind::Bias);
    let keys = if model.mask == MaskKind::Causal { len as f64 / 2.0 } else { len as f64 };
    let attention = 12.0 * keys * (model.n_layer * model.n_head * model.d_head) as f64;
    (rows * len) as f64 * (6.0 * in_products as f64 + attention)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vulpes_model::{Head, ModelSection};

    #[test]
    fn flops_of_gpt2_small_are_six_a_weight_and_token() {
        let model = ModelSection::default().resolve(50_257, Head::NextToken);
        let products = 12 * 12 * 768 * 768 + 50_257 * 768;
        let attention = 12 * 512 * 12 * 768;
        assert_eq!(flops_per_step(&model, 2, 1024), 2048.0 * (6 * products + attention) as f64);
    }
}
