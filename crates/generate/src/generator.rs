//! A text generator: model, tokenizer, settings and end tokens, opened together from a folder or a GGUF file.

use std::collections::VecDeque;
use std::path::Path;

use vulpes_data::Tokenizer;
use vulpes_model::folder::{Extra, LoadOptions};
use vulpes_model::{Model, Transformer, folder, gguf};

use crate::config::SampleConfig;
use crate::error::{Error, Result};
use crate::generate::{Continuing, Request, Sample, check_continues};
use crate::generation_config::GenerationConfig;
use crate::prompt::Prompt;
use crate::source::Source;

/// Continues texts as the `sample` program does: with the folder's settings, on all cores.
///
/// # Examples
/// ```no_run
/// use vulpes_generate::Generator;
///
/// let generator = Generator::open("gpt2")?.with_seed(7);
/// for text in generator.stream("The quick brown fox")? {
///     print!("{}", text?);
/// }
/// # Ok::<(), vulpes_generate::Error>(())
/// ```
pub struct Generator<M = Transformer> {
    model: M,
    tokenizer: Tokenizer,
    /// The sampling settings.
    pub config: SampleConfig,
    /// The seed of all draws.
    pub seed: u64,
    end_ids: Vec<u32>,
}

impl Generator {
    /// Opens a model folder, the folder of a run, or a GGUF file, on the CPU in float32.
    ///
    /// # Errors
    /// Returns an error that names what is missing or wrong in the folder or file, or if its model can't
    /// continue a text.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        if gguf::is_gguf(path.as_ref()) {
            return Self::open_file(path.as_ref());
        }
        let dir = folder::resolve(path.as_ref()).map_err(Box::new)?;
        let loaded = folder::load(&dir).map_err(Box::new)?;
        let defaults = GenerationConfig::read(&dir)?;
        let mut generator = Self::new(&loaded.transformer, Tokenizer::from_folder(&dir)?)?;
        generator.config = defaults.over(SampleConfig::default());
        generator.end_ids = defaults.end_ids(&loaded.extra.eos_token_id, &generator.tokenizer);
        Ok(generator)
    }

    fn open_file(path: &Path) -> Result<Self> {
        let file = gguf::File::open(path).map_err(Box::new)?;
        let vocabulary = vulpes_data::gguf::read(file.keys(), &path.display().to_string())?;
        let vocabulary = vocabulary.ok_or_else(|| {
            let without =
                "has no tokenizer, but texts need one: use a file that was written with its tokenizer";
            Error::Prompt(format!("{}: {without}", path.display()))
        })?;
        let loaded = gguf::load(&file, &LoadOptions::default()).map_err(Box::new)?;
        let mut generator = Self::new(&loaded.transformer, vocabulary.tokenizer)?;
        generator.end_ids = vocabulary.end_ids;
        generator.end_ids.extend(generator.tokenizer.eos_id());
        Ok(generator)
    }

    /// Saves a model folder: the model, its tokenizer and its settings. An existing folder is overwritten.
    ///
    /// # Errors
    /// Returns an error that names the file that can't be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let dir = folder.as_ref();
        let write = |path: &Path, source| Error::Write { path: path.to_path_buf(), source };
        std::fs::create_dir_all(dir).map_err(|source| write(dir, source))?;
        let extra = Extra { eos_token_id: self.end_ids.clone(), ..Extra::default() };
        folder::save(dir, &self.model, &extra).map_err(Box::new)?;
        self.tokenizer.save(dir.join("tokenizer.json"))?;
        let config = GenerationConfig::from_sample(&self.config, self.end_ids.first().copied());
        let path = dir.join("generation_config.json");
        let text = serde_json::to_string_pretty(&config).unwrap_or_default();
        std::fs::write(&path, text + "\n").map_err(|source| write(&path, source))
    }
}

impl<M: Model> Generator<M> {
    /// A model in memory with its tokenizer, and the settings of `sample`.
    ///
    /// # Errors
    /// Returns an error if the model can't continue a text, or doesn't know all ids of the tokenizer.
    pub fn new(model: &M, tokenizer: Tokenizer) -> Result<Self> {
        if let Some(model) = model.as_transformer() {
            check_continues(model.config())?;
            let (n_tokens, n_known) = (tokenizer.vocab_size(), model.config().vocab_size);
            if n_tokens > n_known {
                return Err(Error::Prompt(format!(
                    "the tokenizer has {n_tokens} tokens, but the model knows only {n_known}: they don't belong together"
                )));
            }
        }
        let end_ids = tokenizer.eos_id().into_iter().collect();
        let model = model.with_trainable(&|_| false)?;
        Ok(Self { model, tokenizer, config: SampleConfig::default(), seed: 0, end_ids })
    }

    /// The same, with other settings.
    #[must_use]
    pub fn with_config(self, config: SampleConfig) -> Self {
        Self { config, ..self }
    }

    /// The same, with another seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Continues `prompt`: an iterator over pieces of text, each returned as soon as it is certain.
    ///
    /// # Errors
    /// Returns an error if the tokenizer can't encode any of the prompt, or a setting is out of range.
    pub fn stream(&self, prompt: &str) -> Result<Texts<'_>> {
        let prompt = Prompt::from_text(prompt, &self.tokenizer, true)?;
        let request = Request {
            prompts: vec![prompt.ids],
            config: self.config.clone(),
            seed: self.seed,
            first: 0,
            end_ids: self.end_ids.clone(),
            trace: false,
            lookup: false,
        };
        let source = self.model.as_transformer().map_or(Source::Own(&self.model), Source::Tensors);
        let continuing = Continuing::new(source, &self.tokenizer, &request)?;
        Ok(Texts { continuing: Some(continuing), ready: VecDeque::new(), sample: None })
    }

    /// Continues `prompt` and returns the complete new text.
    ///
    /// # Errors
    /// As for [`Generator::stream`], and if an operation fails.
    pub fn text(&self, prompt: &str) -> Result<String> {
        self.stream(prompt)?.collect()
    }
}

/// A text in progress ([`Generator::stream`]).
pub struct Texts<'a> {
    continuing: Option<Continuing<'a>>,
    ready: VecDeque<String>,
    sample: Option<Sample>,
}

impl Texts<'_> {
    /// The complete sample, with its tokens and finish reason, once the iterator has ended.
    pub fn sample(&self) -> Option<&Sample> {
        self.sample.as_ref()
    }
}

impl Iterator for Texts<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            let mut continuing = self.continuing.take()?;
            let step = continuing.step(&mut |_, text| {
                self.ready.push_back(text.to_owned());
                true
            });
            match step {
                Ok(true) => self.continuing = Some(continuing),
                Ok(false) => self.sample = continuing.finish().pop(),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
