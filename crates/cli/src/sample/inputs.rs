//! The inputs of `sample`, read and checked: model, tokenizer, prompts, settings.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use vulpes_data::Tokenizer;
use vulpes_generate::{Framed, GenerationConfig, Prompt, SampleConfig, last_window, notes};
use vulpes_model::{Embedder, Head, ModelConfig, device};

use super::args::Args;
use super::model::{self, Model, Opened};
use super::prompts::{check_file, texts_of};
use crate::ending::{Failure, say};
use crate::source::ModelSource;

/// Everything that a run needs, read and checked.
pub(super) struct Inputs {
    /// Where the model is.
    pub(super) source: ModelSource,
    pub(super) model: Model,
    pub(super) tokenizer: Tokenizer,
    pub(super) config: SampleConfig,
    /// Whether the folder sets the maximum number of new tokens.
    pub(super) n_is_given: bool,
    pub(super) end_ids: Vec<u32>,
    pub(super) seed: u64,
    /// Whether the seed was generated, and must be reported.
    pub(super) seed_is_drawn: bool,
    /// A classifier's labels by index.
    pub(super) labels: Vec<String>,
    /// The pooling of text embeddings, for a model without a head.
    pub(super) embedder: Embedder,
    /// The maximum tokens of a text to classify or embed.
    pub(super) most: usize,
    pub(super) prompts: Vec<Asked>,
    /// The file whose rows are answered separately.
    pub(super) rows: Option<PathBuf>,
}

/// A prompt, and what is printed before the new text.
pub(super) struct Asked {
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
}

impl Inputs {
    /// Reports a generated seed, if it was used.
    pub(super) fn say_seed(&self) {
        if self.seed_is_drawn && !self.config.is_greedy() {
            say(&format!("seed: {}", self.seed));
        }
    }

    pub(super) fn open(args: &Args) -> Result<Self, Failure> {
        check_file(args)?;
        let device = device::parse(args.device.as_deref()).map_err(Failure::usage)?;
        if args.device.is_none() {
            device::fallback().iter().for_each(|why| say(&format!("warning: {why}")));
        }
        let source = ModelSource::find(args.folder(), args.adapter.as_deref())?;
        let Opened { model, extra } = model::open(args, &source, device)?;
        let tokenizer = source.tokenizer(args.ids.is_some(), model.config().vocab_size)?;
        tokenizer.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
        let defaults = source.defaults()?;
        let continued = model.config().head == Head::NextToken;
        let n_labels = model.config().head.n_labels().unwrap_or(0);
        let sentence = extra.sentence.clone().unwrap_or_default();
        let context = model.config().context_len;
        let most = sentence.max_len.map_or(context, |most| most.min(context));
        // Models that classify or embed entire texts.
        let reads_whole = n_labels > 0 || matches!(model.config().head, Head::Hidden { .. });
        let rows = args
            .prompt_file
            .clone()
            .filter(|path| args.asks_for_rows() || (reads_whole && path != Path::new("-")));
        let texts = if rows.is_some() || args.chats() { Vec::new() } else { texts_of(args)? };
        let mut prompts = Vec::new();
        if let Some(ids) = &args.ids {
            let prompt = Prompt::from_ids(ids, model.config().vocab_size)?;
            prompts.push((prompt, tokenizer.decode(ids, true)?));
        }
        for text in texts {
            let mut prompt = Prompt::from_text(&text, &tokenizer, continued)?;
            if reads_whole {
                prompt.ids = whole(&text, model.config(), &tokenizer, most)?;
            }
            prompts.push((prompt, text));
        }
        let unknown = |prompt: &Prompt| {
            prompt.ids.iter().find(|&&id| id as usize >= model.config().vocab_size).copied()
        };
        if let Some(id) = prompts.iter().find_map(|(prompt, _)| unknown(prompt)) {
            return Err(Failure::failed(anyhow!(
                "{}: the tokenizer has id {id}, but the model has only {} tokens: they don't belong together",
                source.path().display(),
                model.config().vocab_size
            )));
        }
        prompts.iter().for_each(|(prompt, _)| warn(prompt, &tokenizer, model.config()));
        let of_source = [extra.eos_token_id.as_slice(), source.end_ids()].concat();
        let end_ids = defaults.end_ids(&of_source, &tokenizer);
        let (seed, seed_is_drawn) = match args.seed {
            Some(seed) if seed >= 0 => (seed.unsigned_abs(), false),
            Some(-1) | None => (RandomState::new().hash_one(std::process::id()) & 0xffff_ffff, true),
            Some(seed) => {
                return Err(Failure::usage(anyhow!("--seed {seed}: must be 0 or more, or -1 for a new one")));
            }
        };
        let prompts = prompts.into_iter().map(|(prompt, text)| Asked { ids: prompt.ids, text }).collect();
        let of_folder = extra.labels;
        let label = |number| of_folder.get(number).cloned().unwrap_or_else(|| format!("LABEL_{number}"));
        let labels = (0..n_labels).map(label).collect();
        let mut config = settings(args, &defaults)?;
        // Masks are filled greedily, unless a sampling flag is given.
        if model.config().head == Head::MaskedToken && !args.asks_for_chance() {
            config.temp = 0.0;
        }
        Ok(Self {
            source,
            n_is_given: defaults.max_new_tokens.is_some(),
            config,
            model,
            tokenizer,
            end_ids,
            seed,
            seed_is_drawn,
            labels,
            embedder: sentence.embedder,
            most,
            prompts,
            rows,
        })
    }
}

/// The ids of a text to classify or embed, framed and cut as in training.
fn whole(text: &str, config: &ModelConfig, tokenizer: &Tokenizer, most: usize) -> Result<Vec<u32>, Failure> {
    if text.trim().is_empty() {
        let what = if config.head.n_labels().is_some() { "classifies" } else { "embeds" };
        return Err(Failure::usage(anyhow!(
            "this model {what} a text: pass one, for example with --prompt TEXT"
        )));
    }
    let framed = Framed::within(config, tokenizer, text, None, most)?;
    if framed.n_cut > 0 {
        let n = framed.ids.len() + framed.n_cut;
        say(&format!(
            "warning: the text has {n} tokens, the context holds {}: its last {} are dropped",
            framed.ids.len(),
            framed.n_cut
        ));
    }
    Ok(framed.ids)
}

/// Settings: flags take precedence over the folder's defaults, and those over llama.cpp's.
fn settings(args: &Args, defaults: &GenerationConfig) -> Result<SampleConfig, Failure> {
    let base = defaults.over(SampleConfig::default());
    // A penalty given by flag has llama.cpp's default range.
    let last_n = match args.repeat_penalty {
        Some(_) => defaults.repeat_last_n.unwrap_or(SampleConfig::default().repeat_last_n),
        None => base.repeat_last_n,
    };
    let config = SampleConfig {
        n: args.n.unwrap_or(base.n),
        temp: args.temp.unwrap_or(base.temp),
        top_k: args.top_k.unwrap_or(base.top_k),
        top_p: args.top_p.unwrap_or(base.top_p),
        min_p: args.min_p.unwrap_or(base.min_p),
        repeat_penalty: args.repeat_penalty.unwrap_or(base.repeat_penalty),
        repeat_last_n: args.repeat_last_n.unwrap_or(last_n),
        stop: args.stop.clone(),
    };
    if let Some(temp) = args.temp.filter(|temp| *temp < 0.0) {
        say(&format!("note: --temp {temp} is treated as 0: greedy"));
    }
    let flag = |key: &str| if key == "n" { "-n".to_owned() } else { format!("--{}", key.replace('_', "-")) };
    let problems: Vec<String> = config
        .problems()
        .iter()
        .map(|problem| format!("{} {}", flag(problem.key), problem.message))
        .collect();
    if problems.is_empty() { Ok(config) } else { Err(Failure::usage(anyhow!(problems.join("; ")))) }
}

fn warn(prompt: &Prompt, tokenizer: &Tokenizer, config: &ModelConfig) {
    notes(prompt, tokenizer).iter().for_each(|note| say(&format!("warning: {note}")));
    let (window, n_left_out) = last_window(config, &prompt.ids);
    if n_left_out > 0 && config.head == Head::NextToken {
        say(&format!(
            "warning: the prompt has {} tokens, the context holds {}: its first {n_left_out} are dropped",
            prompt.ids.len(),
            window.len()
        ));
    }
}
