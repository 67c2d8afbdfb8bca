//! What `sample` does, from reading the prompt to the last token.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use vulpes_data::Tokenizer;
use vulpes_generate::{
    Finish, GenerationConfig, Prompt, Request, SampleConfig, Sampler, check_continues, fill_masks, generate,
    last_window, mask_tables, next_table, notes,
};
use vulpes_model::{Head, Transformer, device, folder, with_kernel_threads};

use super::args::Args;
use super::output;
use super::predict::Classifier;
use crate::ending::Failure;

/// Everything that a run needs, read and checked.
struct Session {
    model: Transformer,
    tokenizer: Tokenizer,
    config: SampleConfig,
    end_ids: Vec<u32>,
    seed: u64,
    prompts: Vec<Asked>,
    /// A classifier's labels.
    labels: Vec<String>,
}

/// One prompt, and what is printed before the new text.
struct Asked {
    ids: Vec<u32>,
    text: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let threads = args.threads.map_or_else(available_threads, |n| n as usize);
    with_kernel_threads(threads, || {
        let session = Session::open(args)?;
        match (session.model.config().head, args.next) {
            (Head::NextToken, Some(n)) => session.next(n as usize, args.json),
            (Head::NextToken, None) => session.continue_texts(args),
            (Head::MaskedToken, Some(n)) => session.masks(n as usize, args.json),
            (Head::MaskedToken, None) => session.fill(args),
            (Head::Classify { .. }, _) => session.labels(args),
            (Head::Hidden { .. }, _) => Err(Failure::usage(anyhow!(
                "{}: this model has no head, so there is nothing to get from it; try `explain`",
                args.model().display()
            ))),
        }
    })
}

impl Session {
    fn open(args: &Args) -> Result<Self, Failure> {
        // Before the model is read: a path typed wrong shall cost no time.
        if args.prompt_file.as_ref().is_some_and(|path| path != Path::new("-") && !path.exists()) {
            texts_of(args)?;
        }
        let device = device::parse(args.device.as_deref()).map_err(Failure::usage)?;
        if args.device.is_none() {
            device::fallback().iter().for_each(|why| eprintln!("warning: {why}"));
        }
        let folder = folder::resolve(args.model())?;
        let options = folder::LoadOptions { device, ..folder::LoadOptions::default() };
        let loaded = folder::load_with(&folder, &options)?;
        loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let model = loaded.transformer.without_gradients()?;
        let tokenizer = match &args.ids {
            Some(_) if !Tokenizer::is_in(&folder) => Tokenizer::numbers(model.config().vocab_size)?,
            _ => Tokenizer::from_folder(&folder)?,
        };
        tokenizer.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
        let defaults = GenerationConfig::read(&folder)?;
        let continued = model.config().head == Head::NextToken;
        let is_classifier = matches!(model.config().head, Head::Classify { .. });
        let rows = [&args.text_column, &args.pair_column, &args.label_column];
        if !is_classifier && rows.iter().any(|column| column.is_some()) {
            return Err(Failure::usage(anyhow!(
                "--text-column, --pair-column and --label-column go with a classifier, which labels the rows of a file"
            )));
        }
        // A classifier reads its file row by row.
        let texts = if is_classifier && args.prompt_file.is_some() { Vec::new() } else { texts_of(args)? };
        let mut prompts = Vec::new();
        if let Some(ids) = &args.ids {
            let prompt = Prompt::from_ids(ids, model.config().vocab_size)?;
            prompts.push((prompt, tokenizer.decode(ids, true)?));
        }
        for text in texts {
            prompts.push((Prompt::from_text(&text, &tokenizer, continued)?, text));
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
        let seed = match args.seed {
            Some(seed) if seed >= 0 => seed.unsigned_abs(),
            Some(-1) | None => RandomState::new().hash_one(std::process::id()) & 0xffff_ffff,
            Some(seed) => {
                return Err(Failure::usage(anyhow!("--seed {seed}: wanted 0 or more, or -1 for a new one")));
            }
        };
        let prompts = prompts.into_iter().map(|(prompt, text)| Asked { ids: prompt.ids, text }).collect();
        let mut config = settings(args, &defaults)?;
        // A blank has one likeliest word; whoever wants others asks for them.
        if model.config().head == Head::MaskedToken && !args.asks_for_chance() {
            config.temp = 0.0;
        }
        Ok(Self { config, model, tokenizer, end_ids, seed, prompts, labels: loaded.extra.labels })
    }

    /// The labels of the texts, or of a file's rows.
    fn labels(&self, args: &Args) -> Result<(), Failure> {
        if args.n.is_some() || !args.stop.is_empty() || args.ids.is_some() || args.asks_for_chance() {
            return Err(Failure::usage(anyhow!(
                "this model tells labels: --ids, -n, --stop and the sampler's flags have no meaning for it"
            )));
        }
        let (model, tokenizer, labels) = (&self.model, &self.tokenizer, self.labels.as_slice());
        let classifier = Classifier { model, tokenizer, labels };
        match &args.prompt_file {
            Some(path) => classifier.file(args, path),
            None => {
                let texts: Vec<String> = self.prompts.iter().map(|asked| asked.text.clone()).collect();
                classifier.texts(args, &texts)
            }
        }
    }

    /// The table of the likeliest next tokens.
    fn next(&self, n: usize, as_json: bool) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for (number, asked) in self.prompts.iter().enumerate() {
            let next = next_table(&self.model, &self.tokenizer, &asked.ids, n)?;
            if as_json {
                documents.push(json!({ "prompt_ids": asked.ids, "next": next }));
            } else {
                self.title(number)?;
                output::table(&next)?
            }
        }
        if as_json { Ok(output::document(&output::one_or_many(documents))?) } else { Ok(()) }
    }

    /// The tables of the likeliest tokens for the masks.
    fn masks(&self, n: usize, as_json: bool) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for (number, asked) in self.prompts.iter().enumerate() {
            let tables = mask_tables(&self.model, &self.tokenizer, &asked.ids, n)?;
            let Some(first) = tables.first() else { continue };
            if as_json {
                documents.push(json!({ "prompt_ids": asked.ids, "position": first.position,
                                       "next": first.next, "masks": tables }));
                continue;
            }
            self.title(number)?;
            for (number, table) in tables.iter().enumerate() {
                if number > 0 {
                    writeln!(std::io::stdout())?;
                }
                output::table(&table.next)?;
            }
        }
        if as_json { Ok(output::document(&output::one_or_many(documents))?) } else { Ok(()) }
    }

    /// Of several prompts, each table says whose it is.
    fn title(&self, number: usize) -> std::io::Result<()> {
        let mut out = std::io::stdout();
        match self.prompts.len() {
            1 => Ok(()),
            _ if number == 0 => writeln!(out, "{}", self.prompts[number].text),
            _ => writeln!(out, "\n{}", self.prompts[number].text),
        }
    }

    /// The prompts with their masks filled.
    fn fill(&self, args: &Args) -> Result<(), Failure> {
        if args.n.is_some() || !args.stop.is_empty() {
            return Err(Failure::usage(anyhow!(
                "this model fills masks: -n and --stop have no meaning for it"
            )));
        }
        let sampler = Sampler::new(self.config.clone(), self.seed);
        let sampler = if args.json { sampler.with_trace() } else { sampler };
        let n_samples = args.num_samples.unwrap_or(1);
        let mut samples = Vec::new();
        for (place, asked) in self.prompts.iter().enumerate() {
            for number in 0..n_samples {
                let row = place as u64 * n_samples + number;
                let (ids, choices) = fill_masks(&self.model, &self.tokenizer, &asked.ids, &sampler, row)?;
                let text = self.tokenizer.decode(&ids, true)?;
                if args.json {
                    let tokens = output::tokens(&choices, &self.tokenizer)?;
                    samples.push(output::sample(&text, &Finish::Length, tokens, 0, &self.tokenizer));
                } else {
                    writeln!(std::io::stdout(), "{text}")?;
                }
            }
        }
        self.finish(args.json, samples)
    }

    /// The prompts and what follows them, shown as it comes.
    fn continue_texts(&self, args: &Args) -> Result<(), Failure> {
        check_continues(&self.model)?;
        let n_samples = args.num_samples.unwrap_or(1) as usize;
        let rows: Vec<&Asked> =
            self.prompts.iter().flat_map(|asked| std::iter::repeat_n(asked, n_samples)).collect();
        let request = Request {
            prompts: rows.iter().map(|asked| asked.ids.clone()).collect(),
            config: self.config.clone(),
            seed: self.seed,
            end_ids: self.end_ids.clone(),
            trace: args.json,
        };
        // The first sample is shown as it comes, the others once it is whole.
        let mut out = std::io::stdout().lock();
        let mut written = Ok(());
        if !args.json {
            written = write!(out, "{}", rows[0].text).and_then(|()| out.flush());
        }
        let samples = generate(&self.model, &self.tokenizer, &request, &mut |number, text| {
            if number == 0 && !args.json && written.is_ok() {
                written = write!(out, "{text}").and_then(|()| out.flush());
            }
            written.is_ok()
        })?;
        written?;
        if samples.iter().any(|sample| sample.n_forgotten > 0) {
            let context = self.model.config().context_len;
            eprintln!(
                "note: the text is longer than the context of {context} tokens; its beginning slid out of view"
            );
        }
        let mut documents = Vec::new();
        for (number, sample) in samples.iter().enumerate() {
            if args.json {
                let tokens = output::tokens(&sample.tokens, &self.tokenizer)?;
                let document =
                    output::sample(&sample.text, &sample.finish, tokens, sample.n_forgotten, &self.tokenizer);
                documents.push(document);
            } else if number == 0 {
                writeln!(out)?;
            } else {
                writeln!(out, "---\n{}{}", rows[number].text, sample.text)?;
            }
        }
        drop(out);
        self.finish(args.json, documents)
    }

    /// Ends with the seed, or with the samples of each prompt as JSON.
    fn finish(&self, as_json: bool, samples: Vec<Value>) -> Result<(), Failure> {
        if as_json {
            let n_samples = samples.len() / self.prompts.len().max(1);
            let of =
                |(asked, samples): (&Asked, &[Value])| json!({ "prompt_ids": asked.ids, "samples": samples });
            let documents = self.prompts.iter().zip(samples.chunks(n_samples.max(1))).map(of).collect();
            let mut document = json!({ "seed": self.seed });
            if let (Some(all), Value::Object(more)) =
                (document.as_object_mut(), output::one_or_many(documents))
            {
                all.extend(more);
            }
            output::document(&document)?;
        } else if !self.config.is_greedy() {
            eprintln!("seed: {}", self.seed);
        }
        Ok(())
    }
}

/// The texts that were typed, or the one read from a file or standard input; none beside ids, an empty one where there
/// is no prompt at all.
fn texts_of(args: &Args) -> Result<Vec<String>, Failure> {
    let prompts = args.prompts();
    let nothing = prompts.is_empty() && args.ids.is_none();
    let path = match &args.prompt_file {
        Some(path) => path.as_path(),
        None if nothing && is_piped() => Path::new("-"),
        None => return Ok(if nothing { vec![String::new()] } else { prompts.to_vec() }),
    };
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("standard input can't be read")
            .map_err(Failure::usage)?;
        bytes
    } else {
        std::fs::read(path)
            .with_context(|| format!("{} can't be read", path.display()))
            .map_err(Failure::usage)?
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(anyhow!("{}: not UTF-8 text: byte {at} begins no character", named(path).display()))
    })?;
    // Some editors begin files with a byte order mark, which is no part of the prompt either.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // Editors end files with a newline that is no part of the prompt.
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(vec![text.to_owned()])
}

/// Whether standard input is a pipe or a file: what a person means to be read.
fn is_piped() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
        let kind = stdin.and_then(|stdin| stdin.metadata()).map(|found| found.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_file())
    }
    #[cfg(not(unix))]
    {
        false
    }
}

fn named(path: &Path) -> PathBuf {
    if path == Path::new("-") { PathBuf::from("standard input") } else { path.to_path_buf() }
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
    let flag = |key: &str| if key == "n" { "-n".to_owned() } else { format!("--{}", key.replace('_', "-")) };
    let problems: Vec<String> = config
        .problems()
        .iter()
        .map(|problem| format!("{} {}", flag(problem.key), problem.message))
        .collect();
    if problems.is_empty() { Ok(config) } else { Err(Failure::usage(anyhow!(problems.join("; ")))) }
}

fn warn(prompt: &Prompt, tokenizer: &Tokenizer, model: &Transformer) {
    notes(prompt, tokenizer).iter().for_each(|note| eprintln!("warning: {note}"));
    let (window, n_left_out) = last_window(model, &prompt.ids);
    if n_left_out > 0 && model.config().head == Head::NextToken {
        eprintln!(
            "warning: the prompt has {} tokens, the context holds {}: its first {n_left_out} slide out of view",
            prompt.ids.len(),
            window.len()
        );
    }
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
