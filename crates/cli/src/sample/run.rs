//! The work of `sample`, from reading the prompt to the last token.

use std::io::Write;

use anyhow::anyhow;
use serde_json::{Value, json};
use vulpes_generate::{
    FinishReason, Framed, Request, Sampler, check_continues, embeddings, fill_masks, generate, label_tables,
    mask_tables, next_table,
};
use vulpes_model::{Head, n_cores, with_kernel_threads};

use super::args::Args;
use super::chat::chat;
use super::inputs::{Asked, Inputs};
use super::output;
use super::rows::answer_rows;
use crate::ending::{Failure, say};

/// Runs `sample`; returns the exit code.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let threads = args.threads.map_or_else(n_cores, |n| n as usize);
    with_kernel_threads(threads, || {
        let inputs = Inputs::open(args)?;
        let head = inputs.model.config().head;
        refuse_what_has_no_meaning(head, args)?;
        if args.chats() {
            return chat(&inputs, args);
        }
        if let Some(path) = &inputs.rows {
            return answer_rows(&inputs, args, path).map(|()| 0);
        }
        let done = match (head, args.next) {
            (Head::Classify { .. }, n) => inputs.labels(n.unwrap_or(1) as usize, args),
            (Head::NextToken, Some(n)) => inputs.next(n as usize, args.json),
            (Head::NextToken, None) => inputs.continue_texts(args),
            (Head::MaskedToken, Some(n)) => inputs.masks(n as usize, args.json),
            (Head::MaskedToken, None) => inputs.fill(args),
            (Head::Hidden { .. }, _) => inputs.vectors(args.json),
        };
        done.map(|()| 0)
    })
}

/// Refuses flags that have no effect on the model.
fn refuse_what_has_no_meaning(head: Head, args: &Args) -> Result<(), Failure> {
    let continues = args.n.is_some() || !args.stop.is_empty();
    let repeats = args.repeat_penalty.is_some() || args.repeat_last_n.is_some();
    let refuse = |what: &str| Err(Failure::usage(anyhow!(what.to_owned())));
    match head {
        Head::Classify { .. } if continues || repeats || args.asks_for_chance() => refuse(
            "this model is a classifier: -n, --stop, --seed, --num-samples and the sampling flags have no effect",
        ),
        Head::Hidden { .. } if continues || repeats || args.asks_for_chance() || args.next.is_some() => {
            refuse(
                "this model has no head and embeds texts: -n, --next, --stop, --seed, --num-samples and the \
             sampling flags have no effect",
            )
        }
        Head::MaskedToken if continues => refuse("this model fills masks: -n and --stop have no effect"),
        _ => Ok(()),
    }
}

impl Inputs {
    /// Prints the most likely labels of each prompt.
    fn labels(&self, n: usize, args: &Args) -> Result<(), Failure> {
        let rows: Vec<Framed> = self.prompts.iter().map(|asked| Framed::of_ids(asked.ids.clone())).collect();
        if let Some(problem) = rows.iter().find_map(|row| row.problem(self.model.config(), &self.tokenizer)) {
            return Err(Failure::usage(anyhow!(problem)));
        }
        let tables = label_tables(self.model.transformer()?, &self.labels, &rows, n)?;
        let mut documents = Vec::new();
        for (number, (asked, table)) in self.prompts.iter().zip(&tables).enumerate() {
            if args.json {
                let best = table.first().map(|best| (&best.text, best.probability)).unzip();
                documents.push(json!({ "prompt_ids": asked.ids, "label": best.0, "probability": best.1,
                                       "next": table }));
            } else {
                self.title(number)?;
                output::table(table)?;
            }
        }
        if args.json { Ok(output::document(&output::one_or_many(documents))?) } else { Ok(()) }
    }

    /// Prints the embedding of each prompt, one line each.
    fn vectors(&self, as_json: bool) -> Result<(), Failure> {
        let rows: Vec<Framed> = self.prompts.iter().map(|asked| Framed::of_ids(asked.ids.clone())).collect();
        if let Some(problem) = rows.iter().find_map(|row| row.problem(self.model.config(), &self.tokenizer)) {
            return Err(Failure::usage(anyhow!(problem)));
        }
        let vectors = embeddings(self.model.transformer()?, self.embedder, &rows)?;
        if as_json {
            let document = |(asked, vector): (&Asked, &Vec<f32>)| json!({ "prompt_ids": asked.ids, "embedding": vector });
            let documents = self.prompts.iter().zip(&vectors).map(document).collect();
            return Ok(output::document(&output::one_or_many(documents))?);
        }
        let mut out = std::io::stdout().lock();
        for vector in &vectors {
            writeln!(out, "{}", output::numbers(vector))?;
        }
        Ok(())
    }

    /// Prints the table of the most likely next tokens.
    fn next(&self, n: usize, as_json: bool) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for (number, asked) in self.prompts.iter().enumerate() {
            let next = next_table(self.model.source(), &self.tokenizer, &asked.ids, n)?;
            if as_json {
                documents.push(json!({ "prompt_ids": asked.ids, "next": next }));
            } else {
                self.title(number)?;
                output::table(&next)?
            }
        }
        if as_json { Ok(output::document(&output::one_or_many(documents))?) } else { Ok(()) }
    }

    /// Prints the tables of the most likely tokens for the masks.
    fn masks(&self, n: usize, as_json: bool) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for (number, asked) in self.prompts.iter().enumerate() {
            let tables = mask_tables(self.model.transformer()?, &self.tokenizer, &asked.ids, n)?;
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

    /// Prints the prompt above its table, if there are several.
    fn title(&self, number: usize) -> std::io::Result<()> {
        let mut out = std::io::stdout();
        match self.prompts.len() {
            1 => Ok(()),
            _ if number == 0 => writeln!(out, "{}", self.prompts[number].text),
            _ => writeln!(out, "\n{}", self.prompts[number].text),
        }
    }

    /// Prints the prompts with their masks filled.
    fn fill(&self, args: &Args) -> Result<(), Failure> {
        let sampler = Sampler::new(self.config.clone(), self.seed);
        let sampler = if args.json { sampler.with_trace() } else { sampler };
        let n_samples = args.num_samples.unwrap_or(1);
        let mut samples = Vec::new();
        for (place, asked) in self.prompts.iter().enumerate() {
            for number in 0..n_samples {
                let row = place as u64 * n_samples + number;
                let (ids, choices) =
                    fill_masks(self.model.transformer()?, &self.tokenizer, &asked.ids, &sampler, row)?;
                let text = self.tokenizer.decode(&ids, true)?;
                if args.json {
                    let tokens = output::tokens(&choices, &self.tokenizer)?;
                    samples.push(output::sample(&text, &FinishReason::Length, tokens, 0, &self.tokenizer));
                } else {
                    writeln!(std::io::stdout(), "{text}")?;
                }
            }
        }
        self.finish(args.json, samples)
    }

    /// Streams the prompts and their continuations.
    fn continue_texts(&self, args: &Args) -> Result<(), Failure> {
        check_continues(self.model.config())?;
        let n_samples = args.num_samples.unwrap_or(1) as usize;
        let rows: Vec<&Asked> =
            self.prompts.iter().flat_map(|asked| std::iter::repeat_n(asked, n_samples)).collect();
        let request = Request {
            prompts: rows.iter().map(|asked| asked.ids.clone()).collect(),
            config: self.config.clone(),
            seed: self.seed,
            first: 0,
            end_ids: self.end_ids.clone(),
            trace: args.json,
            lookup: args.lookup,
        };
        // The first sample is streamed, the others follow once it is complete.
        let mut out = std::io::stdout().lock();
        let mut written = Ok(());
        if !args.json {
            written = write!(out, "{}", rows[0].text).and_then(|()| out.flush());
        }
        let samples = generate(self.model.source(), &self.tokenizer, &request, &mut |number, text| {
            if number == 0 && !args.json && written.is_ok() {
                written = write!(out, "{text}").and_then(|()| out.flush());
            }
            written.is_ok()
        })?;
        written?;
        let mut documents = Vec::new();
        for (number, sample) in samples.iter().enumerate() {
            if args.json {
                let tokens = output::tokens(&sample.tokens, &self.tokenizer)?;
                let document = output::sample(
                    &sample.text,
                    &sample.finish_reason,
                    tokens,
                    sample.n_truncated,
                    &self.tokenizer,
                );
                documents.push(document);
            } else if number == 0 {
                writeln!(out)?;
            } else {
                writeln!(out, "---\n{}{}", rows[number].text, sample.text)?;
            }
        }
        // On a terminal both streams share the lines: a note comes after the text's last line.
        out.flush()?;
        drop(out);
        if samples.iter().any(|sample| sample.n_truncated > 0) {
            let context = self.model.config().context_len;
            say(&format!(
                "note: the text is longer than the context of {context} tokens; its beginning was dropped"
            ));
        }
        self.finish(args.json, documents)
    }

    /// Reports the seed, or prints the samples of each prompt as JSON.
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
        } else {
            self.say_seed();
        }
        Ok(())
    }
}
