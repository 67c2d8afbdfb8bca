//! The model folder that a run starts from: what it decides of the config, and what of it the run's folders keep.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vulpes_data::{DataConfig, DataKind, ObjectiveKind, Tokenizer, TokenizerConfig, TokenizerKind};
use vulpes_generate::{GenerationConfig, read_object};
use vulpes_model::config::MaskKind;
use vulpes_model::folder::{self, Description, Extra};
use vulpes_model::{Head, ModelSection};

use crate::config::{RunConfig, lone_pair};
use crate::embedded::model_folder;
use crate::error::{Error, Result};

/// The model folder that `train.init_from` names, described and not yet loaded.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// The folder as `train.init_from` names it.
    named: String,
    /// The folder that says what the model is: the one named, or the checkpoint that the run goes on from.
    dir: PathBuf,
    found: Description,
    /// Whether the run's ids mean what they mean in the folder.
    pub(crate) ids_in_use: bool,
    tokenizer_files: Vec<(&'static str, Vec<u8>)>,
    /// Its `generation_config.json`, where there is one.
    generation: Option<Map<String, Value>>,
    is_checkpoint: bool,
}

impl Base {
    /// Describes the folder of `train.init_from`, or in its place the `checkpoint` that the run goes on from; `None`
    /// for a model from scratch.
    ///
    /// # Errors
    /// When the folder is damaged, or asks for what is not implemented.
    pub(crate) fn open(config: &RunConfig, checkpoint: Option<&Path>) -> Result<Option<Self>> {
        if config.train.is_from_scratch() {
            return Ok(None);
        }
        let named = config.train.init_from.clone();
        // A run that goes on needs the folder that it began from no more.
        let checkpoint = checkpoint.filter(|dir| dir.join("config.json").is_file());
        let is_checkpoint = checkpoint.is_some();
        let dir = match checkpoint {
            Some(checkpoint) => checkpoint.to_path_buf(),
            None => model_folder(Path::new(&named)).map_err(|error| match error.exit_code() {
                2 => Error::Usage(format!("train.init_from: {error}")),
                _ => error,
            })?,
        };
        let found = folder::describe(&dir)?;
        // Read now: what the run saves must not hang on a folder that may change while it goes on.
        let mut tokenizer_files = Vec::new();
        for name in Tokenizer::FILES_BESIDE {
            let path = dir.join(name);
            if path.is_file() {
                let bytes = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
                tokenizer_files.push((*name, bytes));
            }
        }
        let generation = read_object(&dir)?;
        Ok(Some(Self { named, dir, found, ids_in_use: true, tokenizer_files, generation, is_checkpoint }))
    }

    /// Fills in what the config leaves to the folder: the objective, and the model but for its dropout.
    ///
    /// # Errors
    /// When the config contradicts the folder, or the folder can't say what it was made for.
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
        // What a fault advises to write in `[model]` would be refused here.
        let title =
            |title: &'_ str| title.split_once("; use model.").map_or(title.len(), |(words, _)| words.len());
        let mut lines: Vec<&str> = faults.iter().map(|fault| &fault.title[..title(&fault.title)]).collect();
        if kind == ObjectiveKind::NextToken && is_full {
            lines.push("the folder's mask is full, and every token would see the one that it is asked for");
        }
        if !lines.is_empty() {
            // What `[data]` says wrong by itself is no fault of the folder's.
            if lines.iter().all(|line| line.starts_with("data.")) {
                return Err(Error::Usage(lines.join("; ")));
            }
            let named = &self.named;
            let asked = format!("train.init_from = \"{named}\" and objective.kind don't go together");
            return Err(Error::Usage(format!("{asked}: {}", lines.join("; "))));
        }
        Ok(config)
    }

    /// The folder's settings for generation, with the keys that the config gives over them.
    fn lay_sample(&self, config: &mut RunConfig) -> Result<()> {
        let table = |sample| toml::Table::try_from(sample).unwrap_or_default();
        let mut laid = table(GenerationConfig::read(&self.dir)?.over(config.sample.clone()));
        let given = table(config.sample.clone());
        laid.extend(given.into_iter().filter(|(key, _)| config.sample_given.contains(key)));
        config.sample = laid.try_into().unwrap_or_else(|_| config.sample.clone());
        Ok(())
    }

    /// What the folder's head was made for.
    fn objective(&self) -> Result<ObjectiveKind> {
        match (self.found.config.head, self.found.config.mask) {
            (Head::Hidden { .. }, _) if self.found.extra.sentence.is_some() => Ok(ObjectiveKind::Contrastive),
            (Head::NextToken, _) | (Head::Hidden { .. }, MaskKind::Causal) => Ok(ObjectiveKind::NextToken),
            (Head::MaskedToken, _) => Ok(ObjectiveKind::MaskedToken),
            (Head::Classify { .. }, _) => Ok(ObjectiveKind::Classify),
            (Head::Hidden { .. }, MaskKind::Full) => Err(Error::Usage(format!(
                "train.init_from = \"{}\" is an encoder without a head: say what it is to learn, \
                 objective.kind = \"masked_token\", \"classify\" or \"contrastive\"",
                self.named
            ))),
        }
    }

    /// The section of the folder's model, with the config's `dropout`; any other key that differs is a contradiction.
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

    /// The folder's tokenizer, where it has one.
    ///
    /// # Errors
    /// When it can't be read, knows ids that the model doesn't, or `[data.tokenizer]` asks for another.
    pub(crate) fn tokenizer(&self, data: &DataConfig) -> Result<Option<Tokenizer>> {
        if !Tokenizer::is_in(&self.dir) {
            // A new one would be trained in place of one that is there and isn't read.
            if data.kind != DataKind::Ids && Tokenizer::older_in(&self.dir).is_some() {
                Tokenizer::from_folder(&self.dir)?;
            }
            return Ok(None);
        }
        // A run's own folder can hold the tokenizer that the section asked for.
        let asked = TokenizerConfig { eos: None, ..data.tokenizer.clone() };
        if asked != TokenizerConfig::default() && !self.is_checkpoint {
            let table = toml::Table::try_from(&asked).unwrap_or_default();
            let plain = toml::Table::try_from(TokenizerConfig::default()).unwrap_or_default();
            let keys = table.iter().filter(|(key, value)| plain.get(*key) != Some(value));
            let keys: Vec<&str> = keys.map(|(key, _)| key.as_str()).collect();
            return Err(Error::Usage(format!(
                "[data.tokenizer] has no effect beside train.init_from = \"{}\", whose tokenizer is used: leave out {} \
                 (eos alone may be set)",
                self.named,
                keys.join(", ")
            )));
        }
        let tokenizer = Tokenizer::from_folder(&self.dir)?;
        let (known, n_ids) = (self.found.config.vocab_size, tokenizer.vocab_size());
        if n_ids > known {
            return Err(Error::Usage(format!(
                "{}: its ids go up to {}, but the model beside it knows {known} tokens: they don't belong together",
                self.dir.join("tokenizer.json").display(),
                n_ids - 1
            )));
        }
        Ok(Some(tokenizer))
    }

    /// What there is to say about a `[data.tokenizer]` that asks for nothing else than every config does, and that the
    /// folder's own stands in place of.
    pub(crate) fn idle_tokenizer(&self) -> Option<String> {
        let words = "[data.tokenizer] has no effect beside train.init_from";
        (!self.is_checkpoint).then(|| format!("{words} = \"{}\", whose tokenizer is used", self.named))
    }

    /// Takes note that the run has a tokenizer that isn't the folder's; what there is to say about it.
    pub(crate) fn new_tokenizer(&mut self) -> String {
        self.ids_in_use = false;
        format!(
            "{} has no tokenizer.json: the ids of the new tokenizer mean something else than those that the model was \
             trained on",
            self.named
        )
    }

    /// `data` with a tokenizer that keeps to the folder's vocabulary, where one trained on the corpus has `n_ids` and
    /// thereby too many.
    pub(crate) fn bound(&self, data: &DataConfig, n_ids: usize) -> Option<DataConfig> {
        let known = self.found.config.vocab_size;
        (n_ids > known && data.tokenizer.kind != TokenizerKind::File).then(|| {
            let mut data = data.clone();
            data.tokenizer.vocab_size = Some(known);
            data
        })
    }

    /// The labels of a classifier, by number.
    pub(crate) fn labels(&self) -> Vec<String> {
        match self.found.config.head.n_labels() {
            Some(n_labels) if self.found.extra.labels.len() != n_labels => {
                (0..n_labels).map(|number| format!("LABEL_{number}")).collect()
            }
            Some(_) => self.found.extra.labels.clone(),
            None => Vec::new(),
        }
    }

    /// What is worth saying about a head that the folder doesn't have, or whose labels mean something else.
    pub(crate) fn new_labels(&self, labels: &[String]) -> Option<String> {
        let known = self.labels();
        (!known.is_empty() && !labels.is_empty() && known != labels).then(|| {
            format!(
                "{} tells {} apart, and data.train {}: the labels of data.train are used",
                self.named,
                known.join(", "),
                labels.join(", ")
            )
        })
    }

    /// What the folder says: the model, what reading it had to say.
    pub(crate) fn found(&self) -> &Description {
        &self.found
    }

    /// The folder's special tokens.
    pub(crate) fn tokens(&self) -> Extra {
        Extra { labels: Vec::new(), ..self.found.extra.clone() }
    }

    /// The files that belong to the folder's tokenizer, those that there are.
    pub(crate) fn tokenizer_files(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.tokenizer_files.iter().map(|(name, bytes)| (*name, bytes.as_slice()))
    }
}

/// What a run's model folders say in `generation_config.json`: its `[sample]`, over what the folder says that the model
/// comes from; the tokens are left out where the run's are others.
pub(crate) fn generation_config(base: Option<&Base>, config: &RunConfig) -> Map<String, Value> {
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
