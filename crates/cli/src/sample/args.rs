//! The command line of `sample`. Its flags are a contract: a test freezes them.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Parser;

use crate::called::called;
use crate::ending::Failure;

/// Continues a text, fills its masks or classifies it with a trained model.
#[derive(Debug, Parser)]
#[command(name = "sample", version, max_term_width = 100)]
#[command(group = clap::ArgGroup::new("input"))]
#[command(after_help = "\
Examples:
  sample runs/fox \"The quick brown fox\"                 continue a text
  sample runs/fox \"The quick brown fox\" --next 5        the most likely next words
  sample runs/fox \"The quick\" -n 40 --temp 0            greedily
  sample runs/fox-bert \"The quick [MASK] fox jumps\"     fill a mask
  sample runs/reviews \"Not worth the money\"             a classifier's label
  sample runs/reviews --prompt-file new.csv --text-column body --label-column stars > labels.tsv
  sample model.gguf \"The quick brown fox\"              the same from a GGUF file
  echo \"The quick brown\" | sample runs/fox              a text from another program
  sample runs/chat --chat                               chat with a model trained on conversations

Without a prompt (and with nothing piped into standard input) the model starts a new text. The sampler's
defaults come from the model folder's generation_config.json, else they are llama.cpp's.")]
pub(crate) struct Args {
    /// A model folder, a run folder (its model/ is used), a GGUF file, or a model's name on the hub (ORG/NAME,
    /// ORG/NAME@REVISION)
    #[arg(long, value_name = "DIR", required_unless_present = "run")]
    pub(crate) model: Option<PathBuf>,
    /// The same folder without --model
    #[arg(value_name = "RUN")]
    pub(crate) run: Option<PathBuf>,
    /// An adapter applied to the model: a folder in PEFT's format, or a run that trained one
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// Texts, as for --prompt
    #[arg(value_name = "TEXT")]
    pub(crate) texts: Vec<String>,
    /// The text to continue; with a masked model, a text with `[MASK]` in it; can be repeated
    #[arg(long, value_name = "TEXT", group = "input", allow_hyphen_values = true)]
    pub(crate) prompt: Vec<String>,
    /// A file with the text; - is standard input
    #[arg(long, value_name = "FILE", group = "input")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// Answer each row of --prompt-file separately: the rows of a .csv, .tsv or .jsonl file, the lines of any other;
    /// always on for a classifier
    #[arg(long, conflicts_with = "num_samples")]
    pub(crate) rows: bool,
    /// As --rows, with the text in this column of the table [default: text]
    #[arg(long, value_name = "COLUMN", conflicts_with = "num_samples")]
    pub(crate) text_column: Option<String>,
    /// As --rows, with the second text of each pair in this column
    #[arg(long, value_name = "COLUMN", conflicts_with = "num_samples")]
    pub(crate) pair_column: Option<String>,
    /// As --rows, with the true label in this column: the output ends with a classifier's accuracy
    #[arg(long, value_name = "COLUMN", conflicts_with = "num_samples")]
    pub(crate) label_column: Option<String>,
    /// The prompt as token ids
    #[arg(long, value_name = "1,2,3", group = "input", value_delimiter = ',')]
    pub(crate) ids: Option<Vec<u32>>,
    /// Chat with the model: it answers each line that you type. A line that ends in \ continues on the next; Ctrl-C
    /// ends an answer, or at the prompt the program
    #[arg(long, group = "input", conflicts_with_all = ["texts", "next", "num_samples", "json"])]
    pub(crate) chat: bool,
    /// Answer the conversation in a JSON file once; - is standard input
    #[arg(long, value_name = "FILE", group = "input", conflicts_with_all = ["texts", "next", "num_samples"])]
    pub(crate) chat_file: Option<PathBuf>,
    /// The chat template: a file, `plain`, or the name of one of the folder's [default: the folder's]
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) chat_template: Option<String>,
    /// Maximum new tokens; -1 = until the end token
    #[arg(short, value_name = "N", allow_negative_numbers = true)]
    pub(crate) n: Option<i64>,
    /// Temperature; 0 = greedy, the default for filling masks
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temp: Option<f64>,
    /// Keep the K most likely tokens; 0 = all
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub(crate) top_k: Option<i64>,
    /// Keep the most likely tokens whose probabilities add up to P; 1 = all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f64>,
    /// Keep tokens at least P times as likely as the most likely one; 0 = all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f64>,
    /// Make recent tokens less likely; 1 = off
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) repeat_penalty: Option<f64>,
    /// Number of tokens that count as recent; 0 = off, -1 = the entire context
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) repeat_last_n: Option<i64>,
    /// Sampling seed, for reproducible text; -1 = a new one
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) seed: Option<i64>,
    /// Number of texts per prompt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) num_samples: Option<u64>,
    /// End a text where TEXT appears; can be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
    /// Print the N most likely next tokens with their probabilities instead of a text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with_all = ["n", "temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "seed", "num_samples", "stop"])]
    pub(crate) next: Option<u64>,
    /// Dtype of the weights for continuing texts on the CPU: smaller is faster; auto = bf16 if the folder is in it,
    /// else f32 [default: f32; of a GGUF file: its own]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<WeightType>,
    /// Speculative decoding: guess the next tokens from repetitions in the text; the text stays the same
    #[arg(long, conflicts_with = "next")]
    pub(crate) lookup: bool,
    /// Device: cpu, cuda, cuda:N or metal [default: the best available]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Threads; the text doesn't depend on the number [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) threads: Option<u64>,
    /// Print one JSON document with details of each sampled token; for rows an object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// The dtypes of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WeightType {
    F32,
    Bf16,
    #[value(name = "q8_0")]
    Q80,
    #[value(name = "q4_0")]
    Q40,
    Auto,
}

impl Args {
    /// Merges positional arguments with flags for the folder and the prompts.
    ///
    /// # Errors
    /// Returns an error if one is given in both ways.
    pub(super) fn in_one_place(mut self) -> Result<Self, Failure> {
        let refuse = |what: String| Err(Failure::usage(anyhow!(what)));
        if let (Some(model), Some(word)) = (&self.model, &self.run) {
            let (model, word, program) = (model.display(), word.display(), called("sample"));
            return refuse(format!(
                "unexpected argument {word:?}: --model names the folder already; \
                 try `{program} {model} {word:?}`, or --prompt {word:?}",
                word = word.to_string()
            ));
        }
        let given = [
            (!self.prompt.is_empty(), "--prompt"),
            (self.prompt_file.is_some(), "--prompt-file"),
            (self.ids.is_some(), "--ids"),
            (self.chat, "--chat"),
            (self.chat_file.is_some(), "--chat-file"),
        ];
        if self.chat_template.is_some() && !self.chats() {
            return refuse("--chat-template requires --chat or --chat-file".to_owned());
        }
        if let (Some(text), Some((_, flag))) = (self.texts.first(), given.iter().find(|(given, _)| *given)) {
            return refuse(format!("{flag} and the text {text:?} can't be used together"));
        }
        // Not left to clap: it doesn't report a missing file if another input is given.
        if self.asks_for_rows() && self.prompt_file.is_none() {
            return refuse("--rows and the column flags require --prompt-file FILE".to_owned());
        }
        self.model = self.model.or(self.run.take());
        self.prompt.append(&mut self.texts);
        Ok(self)
    }

    /// The model folder, after merging.
    pub(super) fn folder(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(""))
    }

    /// Whether to answer a conversation.
    pub(super) fn chats(&self) -> bool {
        self.chat || self.chat_file.is_some()
    }

    /// Whether each row of the file is answered separately, whatever the model.
    pub(super) fn asks_for_rows(&self) -> bool {
        let Self { rows, text_column, pair_column, label_column, .. } = self;
        *rows || text_column.is_some() || pair_column.is_some() || label_column.is_some()
    }

    /// Whether a flag was given that only affects sampling.
    pub(super) fn asks_for_chance(&self) -> bool {
        let Self { temp, top_k, top_p, min_p, seed, num_samples, .. } = self;
        temp.is_some()
            || top_k.is_some()
            || top_p.is_some()
            || min_p.is_some()
            || seed.is_some()
            || num_samples.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, error::ErrorKind};

    #[test]
    fn the_command_line_is_frozen() {
        let command = Args::command();
        let flags: Vec<String> = command
            .get_arguments()
            .map(|arg| match (arg.get_long(), arg.get_short()) {
                (Some(long), _) => format!("--{long}"),
                (None, Some(short)) => format!("-{short}"),
                (None, None) => arg.get_value_names().unwrap()[0].to_string(),
            })
            .collect();
        assert_eq!(
            flags.join(" "),
            "--model RUN --adapter TEXT --prompt --prompt-file --rows --text-column \
             --pair-column --label-column --ids --chat --chat-file --chat-template -n --temp --top-k --top-p --min-p --repeat-penalty \
             --repeat-last-n --seed --num-samples --stop --next --dtype --lookup --device --threads --json"
        );
        command.debug_assert();
    }

    #[test]
    fn conflicting_arguments_are_refused() {
        let kind = |line: &str| Args::try_parse_from(line.split(' ')).unwrap_err().kind();
        assert_eq!(kind("sample --prompt a"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("sample --model m --prompt a --ids 1"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("sample --model m --prompt a --next 5 --temp 1"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("sample --model m --chat --chat-file f"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("sample --model m --chat --next 3"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("sample --model m --ids 1,x"), ErrorKind::ValueValidation);
        assert_eq!(kind("sample --model m --num-samples 0"), ErrorKind::ValueValidation);
        assert_eq!(kind("sample --model m --colour"), ErrorKind::UnknownArgument);
    }

    #[test]
    fn negative_values_and_odd_texts_are_accepted() {
        let args = Args::try_parse_from(
            "sample --model m --prompt -x- -n -1 --temp 0 --repeat-last-n -1 --seed -1 --stop --".split(' '),
        )
        .unwrap();
        assert_eq!((args.n, args.seed, args.repeat_last_n), (Some(-1), Some(-1), Some(-1)));
        assert_eq!(
            (args.prompt.first().map(String::as_str), args.stop.as_slice()),
            (Some("-x-"), &["--".to_owned()][..])
        );
    }
}
