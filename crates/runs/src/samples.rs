//! `samples.jsonl`: the model's continuations of a few prompts at each evaluation.

use std::path::Path;

use serde_json::{Value, json};
use vulpes_generate::{Prompt, Request, generate};
use vulpes_model::with_kernel_threads;

use crate::checkpoint::files::{Disk, Files};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::session::Session;

/// The file's name in a run folder.
const FILE: &str = "samples.jsonl";

/// Each prompt of `train.prompts` with the model's continuation. The sampling seed is the same at each evaluation.
///
/// # Errors
/// Returns an error if an operation fails, or a prompt has a word outside the vocabulary.
pub(crate) fn of(plan: &Plan, session: &Session<'_>) -> Result<Vec<(String, String)>> {
    let Some(tokenizer) = plan.dataset.tokenizer() else { return Ok(Vec::new()) };
    let texts = &plan.config.train.prompts;
    let model = session.transformer().merged()?;
    let prompts = texts
        .iter()
        .map(|text| Ok(Prompt::from_text(text, tokenizer, true)?.ids))
        .collect::<std::result::Result<Vec<_>, vulpes_generate::Error>>()?;
    let request = Request {
        prompts,
        config: plan.config.sample.clone(),
        seed: plan.config.train.seed,
        first: 0,
        end_ids: tokenizer.eos_id().into_iter().chain(plan.extra().eos_token_id).collect(),
        trace: false,
        lookup: false,
    };
    let samples =
        with_kernel_threads(plan.n_threads, || generate(&model, tokenizer, &request, &mut |_, _| true))?;
    Ok(texts.iter().cloned().zip(samples.into_iter().map(|sample| sample.text)).collect())
}

/// Adds the samples of a step to the file; those of this step and later ones, left by a run resumed from before, are
/// replaced.
///
/// # Errors
/// Returns an error if a file operation fails; the file is then unchanged.
pub(crate) fn write(run: &Path, step: u64, samples: &[(String, String)]) -> Result<()> {
    let path = run.join(FILE);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let is_earlier = |line: &&str| {
        serde_json::from_str::<Value>(line)
            .is_ok_and(|line| line["step"].as_u64().is_some_and(|at| at < step))
    };
    let mut text: String = before.lines().filter(is_earlier).map(|line| format!("{line}\n")).collect();
    let all: Vec<Value> =
        samples.iter().map(|(prompt, text)| json!({ "prompt": prompt, "text": text })).collect();
    text += &format!("{}\n", json!({ "step": step, "samples": all }));
    let written = Disk.replace(&run.join(".tmp-samples.jsonl"), &path, text.as_bytes());
    written.map_err(|source| Error::io("write", &path, source))
}
