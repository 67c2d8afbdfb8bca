//! From a config to all that a run needs, decided and opened: device, data, model, sizes.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::json;
use vulpes_data::{Cursor, Dataset, OpenOptions, Tokenizer};
use vulpes_model::config::MaskKind;
use vulpes_model::folder::{self, Extra, LoadOptions};
use vulpes_model::{Head, ModelConfig, Transformer, device, n_parameters, parameter_specs};

use crate::base::Base;
use crate::config::{DTypeName, RunConfig, head};
use crate::freeze::frozen;
use crate::human::{counted, thousands};
use crate::optimizer::Optimizer;
use crate::step::default_shards;
use crate::{Error, Result};

/// How many rows the mark of a corpus is made from.
const MARKED_ROWS: u64 = 64;

/// What a config decides, with the data opened and counted; no parameter is allocated yet.
pub struct Plan {
    /// The config.
    pub config: RunConfig,
    /// The run's folder.
    pub run_dir: PathBuf,
    /// The model, the vocabulary's size filled in.
    pub model: ModelConfig,
    /// The corpus.
    pub dataset: Arc<Dataset>,
    /// Where the arithmetic is done.
    pub device: Device,
    /// The number format.
    pub dtype: DType,
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads.
    pub n_threads: usize,
    base: Option<Base>,
    /// The parameters that stay as they are.
    pub(crate) frozen: BTreeSet<String>,
    /// What folder and data had to say.
    pub warnings: Vec<String>,
}

/// What the command line decides beside the config.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// `--device`.
    pub device: Option<String>,
    /// The run's folder.
    pub run_dir: PathBuf,
    /// The checkpoint that a run goes on from; its tokenizer is used in place of a new one.
    pub checkpoint: Option<PathBuf>,
}

impl Plan {
    /// Checks the config, opens device and data, and settles the sizes.
    ///
    /// # Errors
    /// Returns an error if the config breaks a rule ([`RunConfig::check`]), the device or the data can't be opened, or
    /// the vocabulary shows a contradiction.
    pub fn new(
        config: RunConfig,
        options: &PlanOptions,
        progress: &dyn vulpes_data::Progress,
    ) -> Result<Self> {
        config.check()?;
        let device = device::parse(options.device.as_deref())?;
        let mut base = Base::open(&config, options.checkpoint.as_deref())?;
        let mut warnings = Vec::new();
        let config = match &base {
            None => config,
            Some(base) => {
                warnings.extend(base.found().warnings.iter().cloned());
                base.settle(config)?
            }
        };
        let tokenizer = match (&base, &options.checkpoint) {
            (Some(base), _) => base.tokenizer(&config.data)?,
            (None, Some(dir)) if Tokenizer::is_in(dir) => Some(Tokenizer::from_folder(dir)?),
            _ => None,
        };
        let sizes = config.model.resolve(1, head(&config.objective, 2));
        let labels = base.as_ref().map(Base::labels).unwrap_or_default();
        let (row_len, len_key) = row_len(&config, sizes.context_len, base.is_some())?;
        let open = OpenOptions {
            context_len: row_len,
            len_key,
            n_positions: Some(sizes.context_len),
            seed: config.train.seed,
            vocab_size: config.model.vocab_size,
            n_token_types: Some(sizes.n_token_type),
            tokenizer: tokenizer.as_ref(),
            labels: &labels,
            shuffle: config.train.shuffle,
            progress,
        };
        let open_data =
            |data| on_threads(config.train.threads, || Dataset::open(data, &config.objective, &open));
        let mut dataset = open_data(&config.data)?;
        if let Some(base) = base.as_mut().filter(|_| tokenizer.is_none() && dataset.tokenizer().is_some()) {
            warnings.push(base.new_tokenizer());
            if let Some(data) = base.bound(&config.data, dataset.vocab_size()) {
                dataset = open_data(&data)?;
            }
        }
        let model = config.model.resolve(dataset.vocab_size(), head(&config.objective, dataset.n_labels()));
        check_model(&model, &dataset)?;
        let frozen = frozen(&config.train.freeze, &model)?;
        warnings.extend(base.as_ref().and_then(|base| base.new_labels(dataset.labels())));
        warnings.extend(dataset.warnings().iter().cloned());
        if model.head == Head::NextToken && model.mask == MaskKind::Full {
            warnings.push(
                "model.mask = \"full\" with objective.kind = \"next_token\": every token sees the one that it is asked \
                 for. The loss will fall to almost nothing, and the model will have learned to copy, not to predict"
                    .to_owned(),
            );
        }
        let dtype = match config.train.dtype {
            DTypeName::Float32 => DType::F32,
            DTypeName::Float64 => DType::F64,
        };
        let default = default_shards(config.train.batch_rows, row_len, n_parameters(&model), &device);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            n_shards: config.train.shards.unwrap_or(default),
            n_threads: config.train.threads.unwrap_or(cores),
            run_dir: options.run_dir.clone(),
            dataset: Arc::new(dataset),
            config,
            model,
            base,
            frozen,
            device,
            dtype,
            warnings,
        })
    }

    /// The model before the first step: drawn from the seed, or read from `train.init_from`.
    ///
    /// # Errors
    /// When there is no room, or the folder is damaged.
    pub fn init(&self) -> Result<(Transformer, Vec<String>)> {
        let train = &self.config.train;
        if train.is_from_scratch() {
            return Ok((Transformer::init(&self.model, train.seed, self.dtype, &self.device)?, Vec::new()));
        }
        let (transformer, fresh) = self.load(&folder::resolve(Path::new(&train.init_from))?)?;
        let words = format!("not in {}, and drawn from the seed: {}", train.init_from, fresh.join(", "));
        Ok((transformer, if fresh.is_empty() { Vec::new() } else { vec![words] }))
    }

    /// The model of a folder, on this plan's device and with its head; the names of what the folder doesn't have.
    ///
    /// # Errors
    /// When the folder is damaged or holds another model.
    pub fn load(&self, dir: &Path) -> Result<(Transformer, Vec<String>)> {
        let options = LoadOptions {
            device: self.device.clone(),
            dtype: self.dtype,
            head: Some(self.model.head),
            seed: self.config.train.seed,
        };
        let loaded = folder::load_with(dir, &options)?;
        // What a folder can't say (dropout, the spread of first values) is the config's to say.
        let transformer = Transformer::from_parameters(&self.model, loaded.transformer.parameters().clone())?;
        Ok((transformer, loaded.fresh))
    }

    /// A digest that another corpus, or another tokenizer, would not have: sizes, and rows from all over the corpus.
    ///
    /// # Errors
    /// When the corpus changed while it was open.
    pub fn data_mark(&self) -> Result<String> {
        let dataset = &self.dataset;
        let mut hasher = blake3::Hasher::new();
        let sizes = [dataset.n_rows(), dataset.n_tokens(), dataset.vocab_size() as u64];
        sizes.iter().for_each(|size| {
            hasher.update(&size.to_le_bytes());
        });
        for part in 0..MARKED_ROWS {
            let index = dataset.n_rows() * part / MARKED_ROWS;
            let row = dataset.batch(Cursor { epoch: 0, index }, 1)?;
            row.ids.iter().for_each(|id| {
                hasher.update(&id.to_le_bytes());
            });
            row.targets.iter().for_each(|target| {
                hasher.update(&target.to_le_bytes());
            });
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Whether the parameter of that name is trained.
    pub fn is_trainable(&self, name: &str) -> bool {
        !self.frozen.contains(name)
    }

    /// Special tokens and labels, for the run's model folders: those of the folder that the model comes from, as long as
    /// its ids are in use, and of the tokenizer.
    pub(crate) fn extra(&self) -> Extra {
        let tokenizer = self.dataset.tokenizer();
        let mut extra =
            self.base.as_ref().filter(|base| base.ids_in_use).map(Base::tokens).unwrap_or_default();
        if extra.eos_token_id.is_empty() || self.config.data.tokenizer.eos.is_some() {
            extra.eos_token_id = tokenizer.and_then(Tokenizer::eos_id).into_iter().collect();
        }
        extra.pad_token_id = extra.pad_token_id.or(tokenizer.and_then(Tokenizer::pad_id));
        Extra { labels: self.dataset.labels().to_vec(), ..extra }
    }

    /// The `generation_config.json` of the run's model folders: what `[sample]` says, over what the folder said that the
    /// model comes from.
    pub(crate) fn generation_config(&self) -> serde_json::Map<String, serde_json::Value> {
        crate::base::generation_config(self.base.as_ref(), &self.config)
    }

    /// Files that belong to the tokenizer of the folder that the model comes from, those that there are.
    pub(crate) fn tokenizer_files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.base.iter().filter(|base| base.ids_in_use).flat_map(Base::tokenizer_files)
    }

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
        let longest = self.dataset.longest_row();
        let tokens = self.config.train.batch_rows.div_ceil(self.n_shards) * longest * at_once;
        // A block keeps about ten tensors of the model's width a token, three of the feed-forward's, and its weights.
        let per_token = m.n_layer * (10 * m.d_model + 3 * m.d_ff + 2 * m.n_head * longest) + 4 * m.d_model;
        ((all + trained * per_trained + self.n_optimizer_state() + tokens * per_token)
            * self.dtype.size_in_bytes()) as u64
    }

    /// The most tokens that one step reads.
    pub fn tokens_per_step(&self) -> u64 {
        (self.config.train.batch_rows * self.config.train.accumulate * self.dataset.longest_row()) as u64
    }

    /// The plan as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let (all, trained) = self.n_parameters();
        json!({
            "run": self.run_dir.display().to_string(),
            "device": device::name(&self.device),
            "threads": self.n_threads,
            "shards": self.n_shards,
            "dtype": self.dtype.as_str(),
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
            "rows_per_step": self.config.train.batch_rows * self.config.train.accumulate,
            "tokens_per_step_at_most": self.tokens_per_step(),
            "memory_bytes": self.memory_bytes(),
            "checkpoint_bytes": self.checkpoint_bytes(),
        })
    }
}

/// The most tokens of a row, and the key to make them fewer: the context of a model that exists is what it is.
fn row_len(config: &RunConfig, context_len: usize, is_given: bool) -> Result<(usize, &'static str)> {
    match config.train.max_len {
        Some(len) if len > context_len => Err(Error::Usage(format!(
            "train.max_len = {len} is more than the model's context of {context_len} tokens"
        ))),
        Some(len) => Ok((len, "train.max_len")),
        None => Ok((context_len, if is_given { "train.max_len" } else { "model.context_len" })),
    }
}

/// Does `work` on so many threads, where a number is given: the tokens are the same on any.
fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> T {
    match threads.map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build()) {
        Some(Ok(pool)) => pool.install(work),
        // All cores, which is also what is left where the system gives no threads of their own.
        Some(Err(_)) | None => work(),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, trained) = self.n_parameters();
        let t = &self.config.train;
        let m = &self.model;
        let number = |n: usize| thousands(n as f64);
        let (threads, shards) = (counted(self.n_threads, "thread"), counted(self.n_shards, "shard"));
        writeln!(f, "run         {}", self.run_dir.display())?;
        writeln!(
            f,
            "device      {}, {threads}, {shards} a micro-batch, {}",
            device::name(&self.device),
            self.dtype.as_str()
        )?;
        writeln!(
            f,
            "model       {:?}: {}, {}, width {}, context {}",
            m.family,
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
        let rows = t.batch_rows * t.accumulate;
        writeln!(
            f,
            "steps       {} of {} rows (at most {} tokens), {:.1} epochs",
            thousands(t.steps as f64),
            number(rows),
            thousands(self.tokens_per_step() as f64),
            t.steps as f64 * rows as f64 / self.dataset.n_rows().max(1) as f64
        )?;
        write!(
            f,
            "memory      about {}; {} a checkpoint",
            bytes(self.memory_bytes()),
            bytes(self.checkpoint_bytes())
        )
    }
}

fn check_model(model: &ModelConfig, dataset: &Dataset) -> Result<()> {
    let faults = model.faults();
    if !faults.is_empty() {
        return Err(Error::Model(vulpes_model::Error::Config(faults)));
    }
    if model.vocab_size < dataset.vocab_size() {
        return Err(Error::Usage(format!(
            "model.vocab_size = {} is less than the tokenizer's {} tokens; leave it out, or raise it",
            model.vocab_size,
            dataset.vocab_size()
        )));
    }
    Ok(())
}

/// A number of bytes in its unit.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.0} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
