//! The work of `export`, from the model folder to the requested format.

use std::path::Path;

use vulpes_export::{Dtype, Error, Exported, Format, Request, export};
use vulpes_runs::model_sources;

use super::args::{Args, Form, Type};
use crate::ending::{Failure, say};
use crate::hub;
use crate::signals::Signals;

/// Runs `export`; returns the exit code: 0, or that of the signal that stopped it.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let signals = Signals::install()?;
    let sources = model_sources(hub::fetched(args.folder(), false)?, args.adapter.as_deref())?;
    let request = Request {
        model: &sources,
        name: name_of(args.folder()),
        format: match args.to {
            Form::Hf => Format::Hf,
            Form::Gguf => Format::Gguf,
            Form::GgufAdapter => Format::GgufAdapter,
        },
        dtype: args.dtype.map(|dtype| match dtype {
            Type::F32 => Dtype::F32,
            Type::Bf16 => Dtype::Bf16,
            Type::F16 => Dtype::F16,
            Type::Q8_0 => Dtype::Q8_0,
            Type::Q4_0 => Dtype::Q4_0,
        }),
        with_tokenizer: !args.no_tokenizer,
        out: &args.out,
        stop: &|| signals.exit_code().is_some(),
    };
    match export(&request) {
        Ok(exported) => {
            tell(&exported);
            Ok(0)
        }
        Err(Error::Stopped) => {
            say(&Error::Stopped.to_string());
            Ok(signals.exit_code().unwrap_or(1))
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(exported: &Exported) {
    exported.notes.iter().for_each(|note| say(&format!("note: {note}")));
    say(&format!(
        "wrote {} ({}, {} tensors, {}, {} KB)",
        exported.path.display(),
        exported.architecture,
        exported.n_tensors,
        exported.dtype.name(),
        exported.n_bytes.div_ceil(1000)
    ));
}

/// The name of the model in a folder: that of its run, if it is in one.
fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let names = whole.iter().rev().map(|name| name.to_string_lossy().into_owned());
    let of_a_run = |name: &String| {
        ["model", "checkpoints", "latest", "best"].contains(&name.as_str()) || name.starts_with("step-")
    };
    names.skip_while(of_a_run).find(|name| name != "/").unwrap_or_else(|| "model".to_owned())
}
