//! The source of a model and its tokenizer: a folder, with an adapter's if given, or a GGUF file.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use vulpes_data::gguf::Vocabulary;
use vulpes_data::{ChatTemplate, Tokenizer};
use vulpes_generate::GenerationConfig;
use vulpes_model::folder::{self, LoadOptions, Loaded, Sources};
use vulpes_model::gguf;
use vulpes_runs::model_sources;

use crate::ending::Failure;
use crate::hub;

/// The source of a model.
pub(crate) enum ModelSource {
    /// A model's folder, and an adapter's.
    Folder(Sources),
    /// A GGUF file, with its tokenizer.
    File(Box<gguf::File>, Option<Box<Vocabulary>>),
}

impl ModelSource {
    /// Finds a model by its path or name.
    ///
    /// # Errors
    /// Returns an error if there is none, or its file is damaged.
    pub(crate) fn find(path: &Path, adapter: Option<&Path>) -> Result<Self, Failure> {
        if !gguf::is_gguf(path) {
            return Ok(Self::Folder(model_sources(hub::fetched(path, false)?, adapter)?));
        }
        if adapter.is_some() {
            return Err(Failure::usage(anyhow!(
                "--adapter needs a model folder, but {} is a GGUF file: use the folder that it was made from",
                path.display()
            )));
        }
        let file = gguf::File::open(path)?;
        let vocabulary = vulpes_data::gguf::read(file.keys(), &path.display().to_string())?;
        Ok(Self::File(Box::new(file), vocabulary.map(Box::new)))
    }

    /// The path of the folder or file.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Folder(sources) => sources.with(|dir| Tokenizer::is_in(dir)).to_path_buf(),
            Self::File(file, _) => file.path().to_path_buf(),
        }
    }

    /// The tokenizer; if there is none and ids were given, one that spells `n_ids` of them as numbers.
    ///
    /// # Errors
    /// Returns an error if there is none.
    pub(crate) fn tokenizer(&self, gives_ids: bool, n_ids: usize) -> Result<Tokenizer, Failure> {
        match self {
            Self::Folder(_) => {
                let folder = self.path();
                match gives_ids && !Tokenizer::is_in(&folder) {
                    true => Ok(Tokenizer::numbers(n_ids)?),
                    false => Ok(Tokenizer::from_folder(&folder)?),
                }
            }
            Self::File(_, Some(vocabulary)) => Ok(vocabulary.tokenizer.clone()),
            Self::File(..) if gives_ids => Ok(Tokenizer::numbers(n_ids)?),
            Self::File(file, None) => Err(Failure::usage(anyhow!(
                "{} has no tokenizer: pass ids (--ids), or write the file with its tokenizer",
                file.path().display()
            ))),
        }
    }

    /// The generation defaults of the model's folder.
    ///
    /// # Errors
    /// Returns an error if it can't be read.
    pub(crate) fn defaults(&self) -> Result<GenerationConfig, Failure> {
        match self {
            Self::Folder(sources) => {
                let folder = sources.with(|dir| dir.join("generation_config.json").is_file());
                Ok(GenerationConfig::read(folder)?)
            }
            Self::File(..) => Ok(GenerationConfig::default()),
        }
    }

    /// The end tokens of a GGUF file.
    pub(crate) fn end_ids(&self) -> &[u32] {
        match self {
            Self::File(_, Some(vocabulary)) => &vocabulary.end_ids,
            Self::File(_, None) | Self::Folder(_) => &[],
        }
    }

    /// The chat template of this name, or the source's own.
    ///
    /// # Errors
    /// As [`ChatTemplate::find`].
    pub(crate) fn template(
        &self,
        named: Option<&str>,
        tokenizer: &Tokenizer,
    ) -> Result<ChatTemplate, vulpes_data::Error> {
        match self {
            Self::Folder(_) => ChatTemplate::find(Some(&self.path()), named, Some(tokenizer)),
            Self::File(file, vocabulary) => {
                let own = vocabulary.as_ref().and_then(|own| own.template.as_deref());
                match own.filter(|_| named.is_none()) {
                    Some(source) => {
                        let what = format!("of {}", file.path().display());
                        ChatTemplate::of_tokenizer(source, &what, tokenizer)
                    }
                    None => ChatTemplate::find(None, named, Some(tokenizer)),
                }
            }
        }
    }

    /// Loads the model as tensors.
    ///
    /// # Errors
    /// As [`folder::load_with`].
    pub(crate) fn load(&self, options: LoadOptions) -> Result<Loaded, Failure> {
        match self {
            Self::Folder(sources) => {
                let options = LoadOptions { adapter: sources.adapter.clone(), ..options };
                Ok(folder::load_with(&sources.model, &options)?)
            }
            Self::File(file, _) => Ok(gguf::load(file, &options)?),
        }
    }
}
