//! Chat with a model: interactive, or one conversation from a file.
//!
//! messages → the template's text → ids → the model's answer, up to its end token → another message.

mod answer;
mod editor;
mod file;
mod talk;

use anyhow::anyhow;
use vulpes_generate::check_continues;

use self::answer::Answerer;
use super::args::Args;
use super::inputs::Inputs;
use crate::ending::Failure;

/// Runs `--chat` and `--chat-file`; returns the exit code.
pub(super) fn chat(inputs: &Inputs, args: &Args) -> Result<u8, Failure> {
    check_continues(inputs.model.config()).map_err(|error| Failure::usage(anyhow!(error.to_string())))?;
    let answerer = Answerer::new(inputs, args)?;
    match &args.chat_file {
        Some(path) => file::answer(&answerer, path, args.json).map(|()| 0),
        None => talk::talk(&answerer),
    }
}
