//! The plan of a run: device, data, model and sizes, resolved from a config.

mod adapter;
mod chat;
mod evaluation;

mod memory;
mod model;
mod pairs;
mod ramp;
mod saved;
mod sizes;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device};
use vulpes_collective::Processes;
use vulpes_data::{Cursor, Dataset, ObjectiveKind, OpenOptions, Tokenizer};
use vulpes_model::adapter::{AdapterSpec, BaseDtype};
use vulpes_model::config::MaskKind;
use vulpes_model::folder::{self, Sentence};
use vulpes_model::{Head, ModelConfig, ModelSection, adapted_specs, device, n_cores, n_parameters};

use vulpes_trainer::freeze::frozen;
use vulpes_trainer::{
    GradientDtype, Precision, Schedule, SpikeRule, StateDtype, TrainingOptions, default_shards,
};

use crate::base_model::BaseModel;
use crate::config::{DTypeName, RunConfig, head};
use crate::defaults::fill_in;
use crate::error::{Error, Result};

/// The number of rows in the fingerprint of a corpus.
const MARKED_ROWS: u64 = 64;

/// A resolved config, with the data opened and counted; no parameter is allocated yet.
pub struct Plan {
    /// The config.
    pub config: RunConfig,
    /// The run's folder.
    pub run_dir: PathBuf,
    /// The model, with the vocabulary's size filled in.
    pub model: ModelConfig,
    /// The corpus.
    pub dataset: Arc<Dataset>,
    /// The device.
    pub device: Device,
    /// The dtype.
    pub dtype: DType,
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads.
    pub n_threads: usize,
    /// The processes that train together, including this one.
    pub processes: Processes,
    base: Option<BaseModel>,
    /// The pooling of text embeddings, if they are trained.
    sentence: Option<Sentence>,
    /// The factor of each label's loss; empty = all equal.
    class_weights: Vec<f64>,
    /// The adapter that is trained instead of the model itself.
    pub(crate) adapter: Option<AdapterSpec>,
    /// The frozen parameters.
    pub(crate) frozen: BTreeSet<String>,
    /// What the run chose for settings missing in the config file, and why.
    pub chosen: Vec<String>,
    /// Warnings from the model folder and the data.
    pub warnings: Vec<String>,
    /// When the plan was begun: `train.budget_minutes` counts from here.
    pub(crate) began: Instant,
}

/// What the command line decides in addition to the config.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// `--device`.
    pub device: Option<String>,
    /// The run's folder.
    pub run_dir: PathBuf,
    /// The checkpoint that a run resumes from; its tokenizer is used instead of a new one.
    pub checkpoint: Option<PathBuf>,
    /// The processes that train together.
    pub processes: Processes,
    /// Threads, if the config doesn't set them; `None` = all cores.
    pub threads: Option<usize>,
    /// Whether rows will be shown ([`Dataset::shown`]).
    pub shows_rows: bool,
}

impl Plan {
    /// Checks the config, opens device and data, and settles the sizes.
    ///
    /// # Errors
    /// Returns an error if the config breaks a rule ([`RunConfig::check`]), the device or the data can't be opened, or
    /// the vocabulary contradicts the config.
    pub fn new(
        mut config: RunConfig,
        options: &PlanOptions,
        progress: &dyn vulpes_data::Progress,
    ) -> Result<Self> {
        let began = Instant::now();
        config.check()?;
        let device = device::parse(options.device.as_deref())?;
        let mut base = BaseModel::open(&config, options.checkpoint.as_deref())?;
        let goes_on = options.checkpoint.as_ref().map(|_| options.run_dir.as_path());
        let mut chosen = fill_in(&mut config, goes_on)?;
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
        warnings.extend(used.and_then(BaseModel::idle_tokenizer));
        let sizes = config.model.resolve(1, head(&config.objective, 2));
        let labels = base.as_ref().map(BaseModel::labels).unwrap_or_default();
        let mut config = config;
        let given = base.as_ref().and_then(|base| base.found().extra.sentence.as_ref());
        let (row_len, len_key) = row_len(&config, sizes.context_len, base.is_some(), given)?;
        let sentence = pairs::settle(&mut config.objective, given, row_len);
        let folder = base.as_ref().map(|base| base.dir().to_path_buf()).or(options.checkpoint.clone());
        let open = OpenOptions {
            context_len: row_len,
            len_key,
            n_positions: Some(sizes.context_len),
            seed: config.train.seed,
            vocab_size: config.model.vocab_size,
            n_token_types: Some(sizes.n_token_type),
            tokenizer: tokenizer.as_ref(),
            labels: &labels,
            folder: folder.as_deref(),
            keep_texts: options.shows_rows,
            shuffle: config.train.shuffle,
            progress,
        };
        let open_data =
            |data: &_| on_threads(config.train.threads, || Dataset::open(data, &config.objective, &open));
        let mut data = config.data.clone();
        chat::keep_template(&mut data, options.checkpoint.as_deref());
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
            // If the config doesn't set the padding id, the folder or the tokenizer decides it.
            let of_base = base.as_ref().filter(|base| base.ids_in_use).map(BaseModel::tokens);
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
        let decided = adapter::decide(&mut config, base.as_ref(), &model)?;
        let adapter = decided.map(|(adapter, notes)| {
            warnings.extend(notes);
            frozen.extend(adapter::kept(&adapter, &model));
            adapter
        });
        if sentence.is_some() {
            frozen.extend(pairs::unread(&model));
            pairs::check_train(&config.train, dataset.n_rows())?;
        }
        let trained = adapted_specs(&model, adapter.as_ref()).into_iter();
        let trained: Vec<_> = trained.filter(|spec| !frozen.contains(&spec.name)).collect();
        vulpes_trainer::paces(&config.optimizer.groups, &folder::stored_names(&model), &trained)?;
        evaluation::check(&config, &model, dataset.n_validation_rows())?;
        ramp::check(&config, dataset.longest_row(), dataset.n_validation_rows())?;
        let class_weights = evaluation::class_weights(&config.objective, &dataset)?;
        warnings.extend(base.as_ref().and_then(|base| base.new_labels(dataset.labels())));
        warnings.extend(dataset.warnings().iter().cloned());
        chosen.extend(chat::settle_clock(&mut config.data, &dataset));
        let (asked, n_tokens) = (config.data.tokenizer.vocab_size, dataset.vocab_size());
        if let Some(asked) = asked.filter(|asked| tokenizer.is_none() && *asked > n_tokens) {
            warnings.push(format!(
                "data.tokenizer.vocab_size = {asked}, but the corpus yields {n_tokens} tokens"
            ));
        }
        if model.head == Head::NextToken && model.mask == MaskKind::Full {
            warnings.push(
                "model.mask = \"full\" with objective.kind = \"next_token\": every token sees the one that it must \
                 predict. The loss will fall to almost 0, and the model will have learned to copy, not to predict"
                    .to_owned(),
            );
        }
        let dtype = match config.train.dtype {
            DTypeName::Float32 => DType::F32,
            DTypeName::Float64 => DType::F64,
            DTypeName::Bfloat16 if device.is_cpu() => DType::F32,
            DTypeName::Bfloat16 => {
                return Err(Error::Usage(format!(
                    "train.dtype = \"bfloat16\" is supported on the CPU only, not on {}: use \"float32\"",
                    device::name(&device)
                )));
            }
        };
        let base_dtype = match adapter::base_dtype(&config) {
            BaseDtype::Q8_0 => "adapter.base_dtype = \"q8_0\"",
            BaseDtype::Bfloat16 | BaseDtype::Float32 => "adapter.base_dtype = \"bfloat16\"",
        };
        let only_here = [
            ("train.recompute", config.train.recompute),
            ("train.gradient_dtype = \"bfloat16\"", config.train.gradient_dtype == GradientDtype::Bfloat16),
            (base_dtype, adapter::base_dtype(&config) != BaseDtype::Float32),
            ("optimizer.state_dtype = \"bfloat16\"", config.optimizer.state_dtype == StateDtype::Bfloat16),
        ];
        if let Some((key, _)) = only_here.iter().find(|(_, is_on)| *is_on && !device.is_cpu()) {
            return Err(Error::Usage(format!(
                "{key} is supported on the CPU only, not on {}: leave it out",
                device::name(&device)
            )));
        }
        let texts = config.train.batch_rows.saturating_mul(pairs::texts_of_row(&config.objective));
        let n_trained = match &adapter {
            Some(_) => {
                let all = adapted_specs(&model, adapter.as_ref()).into_iter();
                all.filter(|spec| !frozen.contains(&spec.name)).map(|spec| spec.numel()).sum()
            }
            None => n_parameters(&model),
        };
        let default = default_shards(texts, row_len, n_trained, &device);
        // Written out in full: the meaning must not depend on a preset that may change.
        let ModelSection { vocab_size, pad_id, .. } = config.model;
        config.model = ModelSection { vocab_size, pad_id, ..ModelSection::from(&model) };
        let mut plan = Self {
            n_shards: config.train.shards.unwrap_or(default),
            n_threads: config.train.threads.or(options.threads).unwrap_or_else(n_cores),
            processes: options.processes.clone(),
            run_dir: options.run_dir.clone(),
            dataset: Arc::new(dataset),
            config,
            model,
            base,
            sentence,
            class_weights,
            adapter,
            frozen,
            device,
            dtype,
            chosen,
            warnings,
            began,
        };
        plan.check_processes()?;
        let tight = plan.check_memory(memory::available())?;
        plan.warnings.extend(tight);
        Ok(plan)
    }

    /// A fingerprint of corpus and tokenizer: the digest of the sizes, and of rows from all over the corpus.
    ///
    /// # Errors
    /// Returns an error if the corpus changed while it was open.
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

    /// The options of the training.
    pub fn training(&self) -> TrainingOptions {
        let RunConfig { objective, optimizer, schedule, train, .. } = &self.config;
        TrainingOptions {
            optimizer: optimizer.clone(),
            schedule: match train.budget_minutes {
                None => Schedule::new(schedule, optimizer.lr, train.steps),
                Some(_) => Schedule::new(schedule, optimizer.lr, train.steps).endless(),
            },
            average: train.ema,
            frozen: self.frozen.clone(),
            spike: SpikeRule { then: train.on_spike, factor: train.spike_factor, after: train.spike_after },
            label_smoothing: objective.label_smoothing,
            n_shards: self.n_shards,
            n_threads: self.n_threads,
            processes: self.processes.clone(),
            precision: self.precision(),
            recompute: train.recompute,
            gradient_dtype: train.gradient_dtype,
            seed: train.seed,
            contrast: self.sentence.as_ref().map(|sentence| pairs::contrast(objective, sentence)),
            class_weights: self.class_weights.clone(),
        }
    }

    /// The precision of the factors of matrix products.
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
}

/// The maximum tokens of a row, and the key that reduces it: the context of an existing model is fixed.
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

/// Does `work` on this number of threads, if given: the tokens are the same on any.
fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> T {
    match threads.map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build()) {
        Some(Ok(pool)) => pool.install(work),
        // All cores; also the fallback if the system refuses more threads.
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
