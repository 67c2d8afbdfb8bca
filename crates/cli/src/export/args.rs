//! The command line of `export`. Its flags are a contract: a test freezes them.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

/// Writes a trained model in another program's format.
#[derive(Debug, Parser)]
#[command(name = "export", version, max_term_width = 100)]
#[command(after_help = "\
Examples:
  vulpes export runs/llama-mini --to gguf --out llama-mini.gguf                 one file for llama.cpp
  vulpes export runs/llama-mini --to gguf --dtype q8_0 --out llama-mini.gguf    a quarter of the size
  vulpes export runs/llama-mini --to hf --dtype bf16 --out llama-mini-bf16      a folder for transformers
  vulpes export runs/style --to gguf --out style.gguf                           an adapter, merged into its model
  vulpes export runs/style --to gguf-adapter --out style-lora.gguf              the adapter alone

A shell's builtin `export` takes precedence over this program: use `vulpes export`, or the program's path.
A GGUF file contains the tokenizer: byte-level BPE, characters, SentencePiece's BPE with byte fallback or unigrams,
or WordPiece.
Nothing existing is overwritten, and a file or folder appears under its name once it is complete.")]
pub(crate) struct Args {
    /// A model folder, a run folder (its model/ is used), or a model's name on the hub (ORG/NAME, ORG/NAME@REVISION)
    #[arg(long, value_name = "DIR", required_unless_present = "run")]
    pub(crate) model: Option<PathBuf>,
    /// The same folder without --model
    #[arg(value_name = "RUN", conflicts_with = "model")]
    pub(crate) run: Option<PathBuf>,
    /// An adapter to merge into the model: a folder in PEFT's format, or a run that trained one; if the path itself is
    /// an adapter, it is merged, too
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// The format: a folder for transformers, or a file for llama.cpp
    #[arg(long, value_name = "FORM")]
    pub(crate) to: Form,
    /// The dtype of the matrices; q8_0 and q4_0 for GGUF only [default: the folder's]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<Type>,
    /// The file or folder to write
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    /// Leave the tokenizer out; the file then reads and produces ids
    #[arg(long)]
    pub(crate) no_tokenizer: bool,
}

/// A model format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A folder for transformers
    Hf,
    /// A file for llama.cpp
    Gguf,
    /// The adapter alone, for llama.cpp's --lora
    GgufAdapter,
}

/// A dtype of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// float32
    F32,
    /// bfloat16
    Bf16,
    /// float16
    F16,
    /// 8 bits per value, and a scale per 32 values
    #[value(name = "q8_0")]
    Q8_0,
    /// 4 bits per value, and a scale per 32 values
    #[value(name = "q4_0")]
    Q4_0,
}

impl Args {
    /// The model folder.
    pub(super) fn folder(&self) -> &Path {
        self.model.as_deref().or(self.run.as_deref()).unwrap_or(Path::new(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    #[test]
    fn the_command_line_is_frozen() {
        let command = Args::command();
        let flags: Vec<_> = command
            .get_arguments()
            .map(|arg| match arg.get_long() {
                Some(long) => format!("--{long}"),
                None => arg.get_value_names().unwrap()[0].to_string(),
            })
            .collect();
        assert_eq!(flags.join(" "), "--model RUN --adapter --to --dtype --out --no-tokenizer");
        let words = |name: &str| -> Vec<String> {
            let arg = command.get_arguments().find(|arg| arg.get_id() == name).unwrap();
            arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
        };
        assert_eq!(words("to"), ["hf", "gguf", "gguf-adapter"]);
        assert_eq!(words("dtype"), ["f32", "bf16", "f16", "q8_0", "q4_0"]);
        command.debug_assert();
    }

    #[test]
    fn conflicting_arguments_are_refused() {
        let kind = |line: &str| Args::try_parse_from(line.split(' ')).unwrap_err().kind();
        assert_eq!(kind("export --to hf --out a"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("export m --out a"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("export m --to hf"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("export m --model m --to hf --out a"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("export m --to onnx --out a"), ErrorKind::InvalidValue);
    }
}
