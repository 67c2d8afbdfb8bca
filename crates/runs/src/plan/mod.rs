//! From a config to all that a run needs, decided and opened: device, data, model, sizes.

mod memory;
mod pairs;
mod sizes;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use vulpes_collective::Processes;
use vulpes_data::{Cursor, Dataset, ObjectiveKind, OpenOptions, Tokenizer};
use vulpes_model::config::MaskKind;
use vulpes_model::folder::{self, Extra, LoadOptions, Sentence};
use vulpes_model::{Head, ModelConfig, ModelSection, Transformer, device, n_parameters};

use vulpes_trainer::freeze::frozen;
use vulpes_trainer::{Precision, Schedule, SpikeRule, StateDtype, TrainingOptions, default_shards};

use crate::base::Base;
use crate::config::{DTypeName, RunConfig, head};
use crate::error::{Error, Result};
use crate::suit::suit;

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
    /// The processes that train together, this one among them.
    pub processes: Processes,
    base: Option<Base>,
    /// What makes one vector of a text, where that is learned.
    sentence: Option<Sentence>,
    /// The parameters that stay as they are.
    pub(crate) frozen: BTreeSet<String>,
    /// What the run chose where the config's file says nothing, and why.
    pub chosen: Vec<String>,
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
    /// The processes that train together.
    pub processes: Processes,
    /// Threads where the config doesn't say; all cores where this doesn't, either.
    pub threads: Option<usize>,
}

impl Plan {
    /// Checks the config, opens device and data, and settles the sizes.
    ///
    /// # Errors
    /// Returns an error if the config breaks a rule ([`RunConfig::check`]), the device or the data can't be opened, or
    /// the vocabulary shows a contradiction.
    pub fn new(
        mut config: RunConfig,
        options: &PlanOptions,
        progress: &dyn vulpes_data::Progress,
    ) -> Result<Self> {
        config.check()?;
        let device = device::parse(options.device.as_deref())?;
        let mut base = Base::open(&config, options.checkpoint.as_deref())?;
        let goes_on = options.checkpoint.as_ref().map(|_| options.run_dir.as_path());
        let chosen = suit(&mut config, goes_on)?;
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
        let is_idle = !config.unsaid.tokenizer && config.data.tokenizer.eos.is_none();
        let used = base.as_ref().filter(|_| is_idle && tokenizer.is_some());
        warnings.extend(used.and_then(Base::idle_tokenizer));
        let sizes = config.model.resolve(1, head(&config.objective, 2));
        let labels = base.as_ref().map(Base::labels).unwrap_or_default();
        let mut config = config;
        let given = base.as_ref().and_then(|base| base.found().extra.sentence.as_ref());
        let (row_len, len_key) = row_len(&config, sizes.context_len, base.is_some(), given)?;
        let sentence = pairs::settle(&mut config.objective, given, row_len);
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
            |data: &_| on_threads(config.train.threads, || Dataset::open(data, &config.objective, &open));
        // A share of 0 is the config's word for none at all.
        let mut data = config.data.clone();
        data.validation_fraction = data.validation_fraction.filter(|fraction| *fraction > 0.0);
        let mut dataset = open_data(&data)?;
        if let Some(base) = base.as_mut().filter(|_| tokenizer.is_none() && dataset.tokenizer().is_some()) {
            warnings.push(base.new_tokenizer());
            if let Some(data) = base.bound(&data, dataset.vocab_size()) {
                dataset = open_data(&data)?;
            }
        }
        let mut model =
            config.model.resolve(dataset.vocab_size(), head(&config.objective, dataset.n_labels()));
        if config.model.pad_id.is_none() && model.goes_by_padding() {
            // The padding is the folder's or the tokenizer's to say where the config doesn't.
            let of_base = base.as_ref().filter(|base| base.ids_in_use).map(Base::tokens);
            let of_tokenizer = dataset.tokenizer().and_then(Tokenizer::pad_id);
            let of_base = of_base.and_then(|tokens| tokens.pad_token_id);
            model.pad_id = of_base.or(of_tokenizer).or(model.pad_id);
        }
        if let (Head::Hidden { .. }, Some(base)) = (model.head, &base)
            && let Head::Hidden { pooler } = base.found().config.head
        {
            model.head = Head::Hidden { pooler };
        }
        check_model(&model, &dataset)?;
        let mut frozen = frozen(&config.train.freeze, &model)?;
        if sentence.is_some() {
            frozen.extend(pairs::unread(&model));
            pairs::check_train(&config.train, dataset.n_rows())?;
        }
        warnings.extend(base.as_ref().and_then(|base| base.new_labels(dataset.labels())));
        warnings.extend(dataset.warnings().iter().cloned());
        let (asked, n_tokens) = (config.data.tokenizer.vocab_size, dataset.vocab_size());
        if let Some(asked) = asked.filter(|asked| tokenizer.is_none() && *asked > n_tokens) {
            warnings
                .push(format!("data.tokenizer.vocab_size = {asked}, and the corpus gives {n_tokens} tokens"));
        }
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
            DTypeName::Bfloat16 if device.is_cpu() => DType::F32,
            DTypeName::Bfloat16 => {
                return Err(Error::Usage(format!(
                    "train.dtype = \"bfloat16\" is for the CPU, not for {}: take \"float32\" there",
                    device::name(&device)
                )));
            }
        };
        let only_here = [
            ("train.recompute", config.train.recompute),
            ("optimizer.state_dtype = \"bfloat16\"", config.optimizer.state_dtype == StateDtype::Bfloat16),
        ];
        if let Some((key, _)) = only_here.iter().find(|(_, is_on)| *is_on && !device.is_cpu()) {
            return Err(Error::Usage(format!(
                "{key} is for the CPU, not for {}: leave it out there",
                device::name(&device)
            )));
        }
        let texts = config.train.batch_rows.saturating_mul(pairs::texts_of_row(&config.objective));
        let default = default_shards(texts, row_len, n_parameters(&model), &device);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        // Written down in full: what is meant must not hang on a preset that may change.
        let ModelSection { vocab_size, pad_id, .. } = config.model;
        config.model = ModelSection { vocab_size, pad_id, ..ModelSection::from(&model) };
        let mut plan = Self {
            n_shards: config.train.shards.unwrap_or(default),
            n_threads: config.train.threads.or(options.threads).unwrap_or_else(cores),
            processes: options.processes.clone(),
            run_dir: options.run_dir.clone(),
            dataset: Arc::new(dataset),
            config,
            model,
            base,
            sentence,
            frozen,
            device,
            dtype,
            chosen,
            warnings,
        };
        plan.check_processes()?;
        let tight = plan.check_memory(memory::available())?;
        plan.warnings.extend(tight);
        Ok(plan)
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

    /// What decides the training.
    pub fn training(&self) -> TrainingOptions {
        let RunConfig { objective, optimizer, schedule, train, .. } = &self.config;
        TrainingOptions {
            optimizer: optimizer.clone(),
            schedule: Schedule::new(schedule, optimizer.lr, train.steps),
            frozen: self.frozen.clone(),
            spike: SpikeRule { then: train.on_spike, factor: train.spike_factor, after: train.spike_after },
            label_smoothing: objective.label_smoothing,
            n_shards: self.n_shards,
            n_threads: self.n_threads,
            processes: self.processes.clone(),
            precision: self.precision(),
            recompute: train.recompute,
            seed: train.seed,
            contrast: self.sentence.as_ref().map(|sentence| pairs::contrast(objective, sentence)),
        }
    }

    /// What the factors of the projections' matrix products are rounded to.
    pub(crate) fn precision(&self) -> Precision {
        match self.config.train.dtype {
            DTypeName::Float32 | DTypeName::Float64 => Precision::Float32,
            DTypeName::Bfloat16 => Precision::Bfloat16,
        }
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
        Extra { labels: self.dataset.labels().to_vec(), sentence: self.sentence.clone(), ..extra }
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
}

/// The most tokens of a row, and the key to make them fewer: the context of a model that exists is what it is.
fn row_len(
    config: &RunConfig,
    context_len: usize,
    is_given: bool,
    sentence: Option<&Sentence>,
) -> Result<(usize, &'static str)> {
    match config.train.max_len {
        Some(len) if len > context_len => Err(Error::Usage(format!(
            "train.max_len = {len} is more than the model's context of {context_len} tokens"
        ))),
        Some(len) => Ok((len, "train.max_len")),
        None if config.objective.kind() == ObjectiveKind::Contrastive => {
            let len = sentence.and_then(|sentence| sentence.max_len).unwrap_or(context_len);
            Ok((len.min(context_len), if is_given { "train.max_len" } else { "model.context_len" }))
        }
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
