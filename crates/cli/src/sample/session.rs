//! All that `sample` needs before it computes: model, tokenizer, prompts, settings, read and checked.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use vulpes_data::Tokenizer;
use vulpes_generate::{Framed, GenerationConfig, Prompt, SampleConfig, last_window, notes};
use vulpes_model::{Embedder, Head, Transformer, device, folder};
use vulpes_runs::model_folder;

use super::args::Args;
use super::prompts::{check_file, texts_of};
use crate::ending::{Failure, say};
use crate::hub;

/// Everything that a run needs, read and checked.
pub(super) struct Session {
    pub(super) model: Transformer,
    pub(super) tokenizer: Tokenizer,
    pub(super) config: SampleConfig,
    pub(super) end_ids: Vec<u32>,
    pub(super) seed: u64,
    /// Whether the seed is a new one, which nobody knows yet.
    pub(super) seed_is_drawn: bool,
    /// A classifier's labels by number.
    pub(super) labels: Vec<String>,
    /// What makes one vector of a text, for a model without a head.
    pub(super) embedder: Embedder,
    /// The most tokens of a text that is read as a whole.
    pub(super) most: usize,
    pub(super) prompts: Vec<Asked>,
    /// The file whose rows are to be answered each by itself.
    pub(super) rows: Option<PathBuf>,
}

/// One prompt, and what is printed before the new text.
pub(super) struct Asked {
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
}

impl Session {
    /// Tells a seed that was drawn, where anything was drawn with it: who typed one knows it.
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
        let folder = model_folder(hub::fetched(args.folder(), false)?)?;
        let options = folder::LoadOptions { device, ..folder::LoadOptions::default() };
        let loaded = folder::load_with(&folder, &options)?;
        loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
        let model = loaded.transformer.without_gradients()?;
        let tokenizer = match &args.ids {
            Some(_) if !Tokenizer::is_in(&folder) => Tokenizer::numbers(model.config().vocab_size)?,
            _ => Tokenizer::from_folder(&folder)?,
        };
        tokenizer.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
        let defaults = GenerationConfig::read(&folder)?;
        let continued = model.config().head == Head::NextToken;
        let n_labels = model.config().head.n_labels().unwrap_or(0);
        let sentence = loaded.extra.sentence.clone().unwrap_or_default();
        let context = model.config().context_len;
        let most = sentence.max_len.map_or(context, |most| most.min(context));
        // What is answered text by text, and not continued.
        let reads_whole = n_labels > 0 || matches!(model.config().head, Head::Hidden { .. });
        let rows = args
            .prompt_file
            .clone()
            .filter(|path| args.asks_for_rows() || (reads_whole && path != Path::new("-")));
        let texts = if rows.is_some() { Vec::new() } else { texts_of(args)? };
        let mut prompts = Vec::new();
        if let Some(ids) = &args.ids {
            let prompt = Prompt::from_ids(ids, model.config().vocab_size)?;
            prompts.push((prompt, tokenizer.decode(ids, true)?));
        }
        for text in texts {
            let mut prompt = Prompt::from_text(&text, &tokenizer, continued)?;
            if reads_whole {
                prompt.ids = whole(&text, &model, &tokenizer, most)?;
            }
            prompts.push((prompt, text));
        }
        let unknown = |prompt: &Prompt| {
            prompt.ids.iter().find(|&&id| id as usize >= model.config().vocab_size).copied()
        };
        if let Some(id) = prompts.iter().find_map(|(prompt, _)| unknown(prompt)) {
            return Err(Failure::failed(anyhow!(
                "{}: the tokenizer gives id {id}, but the model knows only {} tokens: they don't belong together",
                folder.display(),
                model.config().vocab_size
            )));
        }
        prompts.iter().for_each(|(prompt, _)| warn(prompt, &tokenizer, &model));
        let mut end_ids = defaults.eos_ids().to_vec();
        end_ids.extend(&loaded.extra.eos_token_id);
        end_ids.extend(tokenizer.eos_id());
        let (seed, seed_is_drawn) = match args.seed {
            Some(seed) if seed >= 0 => (seed.unsigned_abs(), false),
            Some(-1) | None => (RandomState::new().hash_one(std::process::id()) & 0xffff_ffff, true),
            Some(seed) => {
                return Err(Failure::usage(anyhow!("--seed {seed}: wanted 0 or more, or -1 for a new one")));
            }
        };
        let prompts = prompts.into_iter().map(|(prompt, text)| Asked { ids: prompt.ids, text }).collect();
        let of_folder = loaded.extra.labels;
        let label = |number| of_folder.get(number).cloned().unwrap_or_else(|| format!("LABEL_{number}"));
        let labels = (0..n_labels).map(label).collect();
        let mut config = settings(args, &defaults)?;
        // A blank has one likeliest word; whoever wants others asks for them.
        if model.config().head == Head::MaskedToken && !args.asks_for_chance() {
            config.temp = 0.0;
        }
        Ok(Self {
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

/// The ids of a text that is read as a whole, in the frame and with the cut of its training.
fn whole(text: &str, model: &Transformer, tokenizer: &Tokenizer, most: usize) -> Result<Vec<u32>, Failure> {
    if text.trim().is_empty() {
        let what = if model.config().head.n_labels().is_some() { "a label to" } else { "the vector of" };
        return Err(Failure::usage(anyhow!("this model gives {what} a text: name one, as in --prompt TEXT")));
    }
    let framed = Framed::within(model, tokenizer, text, None, most)?;
    if framed.n_cut > 0 {
        let n = framed.ids.len() + framed.n_cut;
        say(&format!(
            "warning: the text has {n} tokens, the context holds {}: its last {} are cut off",
            framed.ids.len(),
            framed.n_cut
        ));
    }
    Ok(framed.ids)
}

/// Flags over the folder's defaults over llama.cpp's.
fn settings(args: &Args, defaults: &GenerationConfig) -> Result<SampleConfig, Failure> {
    let base = defaults.over(SampleConfig::default());
    // A penalty that was typed is llama.cpp's, and looks as far back as there.
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
        say(&format!("note: --temp {temp} is read as 0: the likeliest token, without chance"));
    }
    let flag = |key: &str| if key == "n" { "-n".to_owned() } else { format!("--{}", key.replace('_', "-")) };
    let problems: Vec<String> = config
        .problems()
        .iter()
        .map(|problem| format!("{} {}", flag(problem.key), problem.message))
        .collect();
    if problems.is_empty() { Ok(config) } else { Err(Failure::usage(anyhow!(problems.join("; ")))) }
}

fn warn(prompt: &Prompt, tokenizer: &Tokenizer, model: &Transformer) {
    notes(prompt, tokenizer).iter().for_each(|note| say(&format!("warning: {note}")));
    let (window, n_left_out) = last_window(model, &prompt.ids);
    if n_left_out > 0 && model.config().head == Head::NextToken {
        say(&format!(
            "warning: the prompt has {} tokens, the context holds {}: its first {n_left_out} slide out of view",
            prompt.ids.len(),
            window.len()
        ));
    }
}
