//! The model folder that a run starts from: what it decides of the config, and what the run keeps of it.

use std::path::Path;

use serde_json::{Map, Value};
use vulpes_data::{DataConfig, DataKind, ObjectiveKind, Tokenizer, TokenizerConfig, TokenizerKind};
use vulpes_generate::{GenerationConfig, read_object};
use vulpes_model::config::MaskKind;
use vulpes_model::folder::{self, Description, Extra, Sources};
use vulpes_model::{Head, ModelSection};

use crate::config::{RunConfig, lone_pair};
use crate::embedded::model_folder;
use crate::error::{Error, Result};

/// The model folder that `train.init_from` names, described but not yet loaded.
#[derive(Clone, Debug)]
pub(crate) struct BaseModel {
    /// The folder as written in `train.init_from`.
    named: String,
    /// The folders that define the model: the one named and an adapter's, or the checkpoint that the run resumes from.
    sources: Sources,
    /// Whether the config names an adapter to start from.
    pub(crate) names_adapter: bool,
    found: Description,
    /// Whether the run's ids have the meaning that they have in the folder.
    pub(crate) ids_in_use: bool,
    tokenizer_files: Vec<(&'static str, Vec<u8>)>,
    /// Its `generation_config.json`, if present.
    generation: Option<Map<String, Value>>,
    is_checkpoint: bool,
}

impl BaseModel {
    /// Describes the folder of `train.init_from`, or the `checkpoint` that the run resumes from instead; `None` for a
    /// model from scratch.
    ///
    /// # Errors
    /// Returns an error if the folder is damaged or requires something that is not implemented.
    pub(crate) fn open(config: &RunConfig, checkpoint: Option<&Path>) -> Result<Option<Self>> {
        if config.train.is_from_scratch() {
            return Ok(None);
        }
        let named = config.train.init_from.clone();
        // A resumed run no longer needs the folder that it started from, unless it trains an adapter.
        let whole = checkpoint.filter(|dir| dir.join("config.json").is_file());
        let is_checkpoint = whole.is_some();
        let mut names_adapter = false;
        let sources = match whole {
            Some(checkpoint) => Sources { model: checkpoint.to_path_buf(), adapter: None },
            None => {
                let mut sources = sources_named(config)?;
                names_adapter = sources.adapter.is_some();
                if let Some(checkpoint) = checkpoint.filter(|_| config.adapter.is_some()) {
                    sources.adapter = Some(checkpoint.to_path_buf());
                }
                sources
            }
        };
        let found = folder::describe_sources(&sources)?;
        // Read now: what the run saves must not depend on a folder that may change meanwhile.
        let mut tokenizer_files = Vec::new();
        for name in Tokenizer::FILES_BESIDE {
            let path = sources.with(|dir| Tokenizer::is_in(dir)).join(name);
            if path.is_file() {
                let bytes = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
                tokenizer_files.push((*name, bytes));
            }
        }
        let generation = read_object(sources.with(|dir| dir.join("generation_config.json").is_file()))?;
        let ids_in_use = true;
        let base = Self {
            named,
            sources,
            names_adapter,
            found,
            ids_in_use,
            tokenizer_files,
            generation,
            is_checkpoint,
        };
        Ok(Some(base))
    }

    /// Fills in what the config leaves to the folder: the objective, and the model except for its dropout.
    ///
    /// # Errors
    /// Returns an error if the config contradicts the folder, or the folder doesn't say what it was made for.
    pub(crate) fn settle(&self, mut config: RunConfig) -> Result<RunConfig> {
        let kind = match config.objective.kind {
            Some(kind) => kind,
            None => self.objective()?,
        };
        config.objective.kind = Some(kind);
        let is_full = self.found.config.mask == MaskKind::Full && config.model.mask.is_none();
        config.model = self.overlay(&config.model)?;
        self.lay_sample(&mut config)?;
        let mut faults = config.faults_between();
        faults.extend(lone_pair(&config.objective, &config.train));
        // A fault's advice about `[model]` would be refused here.
        let title = |title: &'_ str| {
            title.split_once("; use model.").map_or(title.len(), |(message, _)| message.len())
        };
        let mut lines: Vec<&str> = faults.iter().map(|fault| &fault.title[..title(&fault.title)]).collect();
        if kind == ObjectiveKind::NextToken && is_full {
            lines.push("the folder's mask is full, and every token would see the one that it must predict");
        }
        if !lines.is_empty() {
            // A fault of `[data]` alone has nothing to do with the folder.
            if lines.iter().all(|line| line.starts_with("data.")) {
                return Err(Error::Usage(lines.join("; ")));
            }
            let named = &self.named;
            let asked = format!("train.init_from = \"{named}\" and objective.kind don't go together");
            return Err(Error::Usage(format!("{asked}: {}", lines.join("; "))));
        }
        Ok(config)
    }

    /// Fills `[sample]` from the folder's generation settings; keys that the config sets take precedence.
    fn lay_sample(&self, config: &mut RunConfig) -> Result<()> {
        let table = |sample| toml::Table::try_from(sample).unwrap_or_default();
        let dir = self.sources.with(|dir| dir.join("generation_config.json").is_file());
        let mut laid = table(GenerationConfig::read(dir)?.over(config.sample.clone()));
        let given = table(config.sample.clone());
        laid.extend(given.into_iter().filter(|(key, _)| config.sample_given.contains(key)));
        config.sample = laid.try_into().unwrap_or_else(|_| config.sample.clone());
        Ok(())
    }

    /// The objective that the folder's head was made for.
    fn objective(&self) -> Result<ObjectiveKind> {
        match (self.found.config.head, self.found.config.mask) {
            (Head::Hidden { .. }, _) if self.found.extra.sentence.is_some() => Ok(ObjectiveKind::Contrastive),
            (Head::NextToken, _) | (Head::Hidden { .. }, MaskKind::Causal) => Ok(ObjectiveKind::NextToken),
            (Head::MaskedToken, _) => Ok(ObjectiveKind::MaskedToken),
            (Head::Classify { .. }, _) => Ok(ObjectiveKind::Classify),
            (Head::Hidden { .. }, MaskKind::Full) => Err(Error::Usage(format!(
                "train.init_from = \"{}\" is an encoder without a head: set the objective, \
                 objective.kind = \"masked_token\", \"classify\" or \"contrastive\"",
                self.named
            ))),
        }
    }

    /// The `[model]` section of the folder's model, with the config's `dropout`; any other key that differs is an
    /// error.
    fn overlay(&self, written: &ModelSection) -> Result<ModelSection> {
        let found = ModelSection::from(&self.found.config);
        let table = |section: &ModelSection| toml::Table::try_from(section).unwrap_or_default();
        let found_table = table(&found);
        let differs = |(key, value): (&String, &toml::Value)| {
            let there = found_table.get(key).map_or("none".to_owned(), toml::Value::to_string);
            (key != "dropout" && found_table.get(key) != Some(value))
                .then(|| format!("model.{key} = {value}, but it has {there}"))
        };
        let differences: Vec<String> = table(written).iter().filter_map(differs).collect();
        if !differences.is_empty() {
            return Err(Error::Usage(format!(
                "[model] contradicts train.init_from = \"{}\": {}; leave those keys out",
                self.named,
                differences.join("; ")
            )));
        }
        Ok(ModelSection { dropout: written.dropout.or(found.dropout), ..found })
    }

    /// The folder's tokenizer, if it has one.
    ///
    /// # Errors
    /// Returns an error if it can't be read, has ids that the model lacks, or `[data.tokenizer]` requests another.
    pub(crate) fn tokenizer(&self, data: &DataConfig) -> Result<Option<Tokenizer>> {
        let dir = self.sources.with(|dir| Tokenizer::is_in(dir));
        if !Tokenizer::is_in(dir) {
            // Otherwise a new one would be trained although there is one that isn't read.
            if data.kind != DataKind::Ids && Tokenizer::older_in(dir).is_some() {
                Tokenizer::from_folder(dir)?;
            }
            return Ok(None);
        }
        // A run's folder may hold the tokenizer that the section requested.
        let asked = TokenizerConfig { eos: None, ..data.tokenizer.clone() };
        if asked != TokenizerConfig::default() && !self.is_checkpoint {
            let table = toml::Table::try_from(&asked).unwrap_or_default();
            let plain = toml::Table::try_from(TokenizerConfig::default()).unwrap_or_default();
            let keys = table.iter().filter(|(key, value)| plain.get(*key) != Some(value));
            let keys: Vec<&str> = keys.map(|(key, _)| key.as_str()).collect();
            return Err(Error::Usage(format!(
                "[data.tokenizer] has no effect with train.init_from = \"{}\", whose tokenizer is used: leave out {} \
                 (eos alone may be set)",
                self.named,
                keys.join(", ")
            )));
        }
        let tokenizer = Tokenizer::from_folder(dir)?;
        let (known, n_ids) = (self.found.config.vocab_size, tokenizer.vocab_size());
        if n_ids > known {
            return Err(Error::Usage(format!(
                "{}: its ids go up to {}, but the model next to it has {known} tokens: they don't belong together",
                dir.join("tokenizer.json").display(),
                n_ids - 1
            )));
        }
        Ok(Some(tokenizer))
    }

    /// The note about a `[data.tokenizer]` of default values that the folder's tokenizer replaces.
    pub(crate) fn idle_tokenizer(&self) -> Option<String> {
        let message = "[data.tokenizer] has no effect with train.init_from";
        (!self.is_checkpoint).then(|| format!("{message} = \"{}\", whose tokenizer is used", self.named))
    }

    /// Records that the run has a tokenizer that isn't the folder's; returns the warning about it.
    pub(crate) fn new_tokenizer(&mut self) -> String {
        self.ids_in_use = false;
        format!(
            "{} has no tokenizer.json: the ids of the new tokenizer differ in meaning from those that the model was \
             trained on",
            self.named
        )
    }

    /// `data` with a tokenizer limited to the folder's vocabulary, if `n_ids` of one trained on the corpus are too
    /// many.
    pub(crate) fn bound(&self, data: &DataConfig, n_ids: usize) -> Option<DataConfig> {
        let known = self.found.config.vocab_size;
        (n_ids > known && data.tokenizer.kind != TokenizerKind::File).then(|| {
            let mut data = data.clone();
            data.tokenizer.vocab_size = Some(known);
            data
        })
    }

    /// The labels of a classifier, by index.
    pub(crate) fn labels(&self) -> Vec<String> {
        match self.found.config.head.n_labels() {
            Some(n_labels) if self.found.extra.labels.len() != n_labels => {
                (0..n_labels).map(|number| format!("LABEL_{number}")).collect()
            }
            Some(_) => self.found.extra.labels.clone(),
            None => Vec::new(),
        }
    }

    /// The note about a head that the folder lacks, or whose labels differ.
    pub(crate) fn new_labels(&self, labels: &[String]) -> Option<String> {
        let known = self.labels();
        (!known.is_empty() && !labels.is_empty() && known != labels).then(|| {
            format!(
                "{} classifies {}, and data.train has {}: the labels of data.train are used",
                self.named,
                known.join(", "),
                labels.join(", ")
            )
        })
    }

    /// The folders that the model comes from.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The base model of this run's adapter, as other programs find it: a folder, or a name on the hub.
    pub(crate) fn name_for_adapters(&self) -> String {
        match Path::new(&self.named).exists() {
            true => self.sources.model.display().to_string(),
            false => self.named.clone(),
        }
    }

    /// The folder that defines the model.
    pub(crate) fn dir(&self) -> &Path {
        &self.sources.model
    }

    /// The folder's description: the model, and the notes from reading it.
    pub(crate) fn found(&self) -> &Description {
        &self.found
    }

    /// The folder's special tokens.
    pub(crate) fn tokens(&self) -> Extra {
        Extra { labels: Vec::new(), ..self.found.extra.clone() }
    }

    /// The files that belong to the folder's tokenizer.
    pub(crate) fn tokenizer_files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.tokenizer_files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))
    }
}

/// The folders that `train.init_from` and `train.adapter` name.
pub(crate) fn sources_named(config: &RunConfig) -> Result<Sources> {
    let usage = |key: &str, error: Error| match error.exit_code() {
        2 => Error::Usage(format!("{key}: {error}")),
        _ => error,
    };
    let named = Path::new(&config.train.init_from);
    let dir = model_folder(named).map_err(|error| usage("train.init_from", error))?;
    let adapter = config.train.adapter.as_ref().map(Path::new);
    folder::sources(&dir, adapter).map_err(|error| usage("train.adapter", error.into()))
}

/// The `generation_config.json` of a run's model folders: `[sample]` applied to that of the folder that the model comes
/// from; its special tokens are left out if the run's differ.
pub(crate) fn generation_config(base: Option<&BaseModel>, config: &RunConfig) -> Map<String, Value> {
    let Some((base, folder)) = base.and_then(|base| Some((base, base.generation.as_ref()?))) else {
        let object = serde_json::to_value(GenerationConfig::from_sample(&config.sample, None));
        return object.ok().and_then(|object| object.as_object().cloned()).unwrap_or_default();
    };
    let given = |key: &str| config.sample_given.iter().any(|given| given == key);
    let mut object = GenerationConfig::laid_over(folder, &config.sample, &given);
    if !base.ids_in_use {
        object.retain(|key, _| !["bos_token_id", "eos_token_id", "pad_token_id"].contains(&key.as_str()));
    } else if config.data.tokenizer.eos.is_some() {
        object.remove("eos_token_id");
    }
    object
}
