//! What `sample` does, from reading the prompt to the last token.

use std::io::Write;

use anyhow::anyhow;
use serde_json::{Value, json};
use vulpes_generate::{
    Finish, Framed, Request, Sampler, check_continues, embeddings, fill_masks, generate, label_tables,
    mask_tables, next_table,
};
use vulpes_model::{Head, with_kernel_threads};

use super::args::Args;
use super::output;
use super::rows::answer_rows;
use super::session::{Asked, Session};
use crate::ending::{Failure, say};

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let threads = args.threads.map_or_else(available_threads, |n| n as usize);
    with_kernel_threads(threads, || {
        let session = Session::open(args)?;
        let head = session.model.config().head;
        refuse_what_has_no_meaning(head, args)?;
        if let Some(path) = &session.rows {
            return answer_rows(&session, args, path);
        }
        match (head, args.next) {
            (Head::Classify { .. }, n) => session.labels(n.unwrap_or(1) as usize, args),
            (Head::NextToken, Some(n)) => session.next(n as usize, args.json),
            (Head::NextToken, None) => session.continue_texts(args),
            (Head::MaskedToken, Some(n)) => session.masks(n as usize, args.json),
            (Head::MaskedToken, None) => session.fill(args),
            (Head::Hidden { .. }, _) => session.vectors(args.json),
        }
    })
}

/// Flags that the model can't heed are no flags to pass over in silence.
fn refuse_what_has_no_meaning(head: Head, args: &Args) -> Result<(), Failure> {
    let continues = args.n.is_some() || !args.stop.is_empty();
    let repeats = args.repeat_penalty.is_some() || args.repeat_last_n.is_some();
    let refuse = |what: &str| Err(Failure::usage(anyhow!(what.to_owned())));
    match head {
        Head::Classify { .. } if continues || repeats || args.asks_for_chance() => refuse(
            "this model gives labels: -n, --stop, --seed, --num-samples and the sampler's flags have no meaning for it",
        ),
        Head::Hidden { .. } if continues || repeats || args.asks_for_chance() || args.next.is_some() => {
            refuse(
                "this model has no head and gives the vector of a text: -n, --next, --stop, --seed, --num-samples and the \
             sampler's flags have no meaning for it",
            )
        }
        Head::MaskedToken if continues => {
            refuse("this model fills masks: -n and --stop have no meaning for it")
        }
        _ => Ok(()),
    }
}

impl Session {
    /// The likeliest labels of each prompt.
    fn labels(&self, n: usize, args: &Args) -> Result<(), Failure> {
        let rows: Vec<Framed> = self.prompts.iter().map(|asked| Framed::of_ids(asked.ids.clone())).collect();
        if let Some(problem) = rows.iter().find_map(|row| row.problem(&self.model, &self.tokenizer)) {
            return Err(Failure::usage(anyhow!(problem)));
        }
        let tables = label_tables(&self.model, &self.labels, &rows, n)?;
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

    /// The vector of each prompt: its numbers on a line.
    fn vectors(&self, as_json: bool) -> Result<(), Failure> {
        let rows: Vec<Framed> = self.prompts.iter().map(|asked| Framed::of_ids(asked.ids.clone())).collect();
        if let Some(problem) = rows.iter().find_map(|row| row.problem(&self.model, &self.tokenizer)) {
            return Err(Failure::usage(anyhow!(problem)));
        }
        let vectors = embeddings(&self.model, self.embedder, &rows)?;
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
            first: 0,
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
        // On a terminal both streams share the lines: a note comes after the text has ended its own.
        out.flush()?;
        drop(out);
        if samples.iter().any(|sample| sample.n_forgotten > 0) {
            let context = self.model.config().context_len;
            say(&format!(
                "note: the text is longer than the context of {context} tokens; its beginning slid out of view"
            ));
        }
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
        } else {
            self.say_seed();
        }
        Ok(())
    }
}

fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
