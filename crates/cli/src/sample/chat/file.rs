//! Answers a conversation from a JSON file.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;
use vulpes_data::Conversation;

use super::answer::Answerer;
use crate::ending::{Failure, say};
use crate::sample::output;

/// Answers the conversation in the file at `path`, `-` for standard input.
pub(super) fn answer(answerer: &Answerer<'_>, path: &Path, as_json: bool) -> Result<(), Failure> {
    let conversation = read(path).map_err(Failure::usage)?;
    let inputs = answerer.inputs;
    let answer = match as_json {
        true => answerer.answer(&conversation, 0, &mut |_| true)?,
        false => answerer.write(&conversation, 0, &mut std::io::stdout().lock(), &|| false)?,
    };
    if answer.n_truncated > 0 {
        say(&format!(
            "note: the conversation is longer than the context: the first {} messages after the system's were \
             dropped",
            answer.n_truncated
        ));
    }
    if as_json {
        let sample = &answer.sample;
        let tokens = output::tokens(&sample.tokens, &inputs.tokenizer)?;
        let document = json!({
            "seed": inputs.seed,
            "message": { "role": "assistant", "content": answer.content },
            "prompt_ids": answer.prompt_ids,
            "samples": [output::sample(&sample.text, &sample.finish_reason, tokens, sample.n_truncated, &inputs.tokenizer)],
        });
        return Ok(output::document(&document)?);
    }
    inputs.say_seed();
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Conversation> {
    let (name, bytes) = match path == Path::new("-") {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("standard input can't be read")?;
            ("standard input".to_owned(), bytes)
        }
        false => {
            let bytes = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
            (path.display().to_string(), bytes)
        }
    };
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let value = serde_json::from_slice(bytes).map_err(|error| anyhow!("{name} is not JSON: {error}"))?;
    let conversation = Conversation::of_json(value).map_err(|why| anyhow!("{name}: {why}"))?;
    if conversation.role(conversation.len() - 1) == "assistant" {
        return Err(anyhow!("{name}: the last message is the assistant's: there is nothing to answer"));
    }
    Ok(conversation)
}
