//! What can be typed. The words are a contract: a test freezes them.

use std::path::{Path, PathBuf};

use clap::Parser;

/// Continues a text, or fills its masks, with a trained model.
#[derive(Debug, Parser)]
#[command(name = "sample", version, max_term_width = 100)]
#[command(group = clap::ArgGroup::new("input"))]
#[command(after_help = "\
Examples:
  sample runs/fox \"The quick brown\"                        go on with a text
  sample runs/fox \"The quick brown\" --next 5               the five likeliest next words
  echo \"The quick\" | sample runs/fox                       the prompt from standard input
  sample runs/fox-bert \"The quick [MASK] fox jumps\"        fill in a blank
  sample runs/bert-classify \"a text\" --next 3              the likeliest labels of a text
  sample runs/bert-classify --prompt-file rows.csv \\
         --text-column text --label-column label           label every row, and say how well

Without a prompt the model starts a text of its own. The sampler's defaults come from the model \
folder's generation_config.json, else they are llama.cpp's.")]
pub(crate) struct Args {
    /// A model folder, or a run folder (its model/ is used), then the texts: as --model and --prompt
    #[arg(value_name = "DIR TEXT", num_args = 0.., conflicts_with_all = ["model", "prompt"])]
    pub(crate) words: Vec<String>,
    /// A model folder, or a run folder (its model/ is used)
    #[arg(long, value_name = "DIR", required_unless_present = "words")]
    pub(crate) model: Option<PathBuf>,
    /// The text to continue; with a masked model, a text with `[MASK]` in it; can be given several times
    #[arg(long, value_name = "TEXT", group = "input", allow_hyphen_values = true)]
    pub(crate) prompt: Vec<String>,
    /// A file with the text; - is standard input. A classifier labels its rows, by the file's ending lines, CSV or JSONL
    #[arg(long, value_name = "FILE", group = "input")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// The column of the texts, of a file of rows [default: text]
    #[arg(long, value_name = "NAME", requires = "prompt_file")]
    pub(crate) text_column: Option<String>,
    /// The column of the second texts, of a file of rows
    #[arg(long, value_name = "NAME", requires = "prompt_file")]
    pub(crate) pair_column: Option<String>,
    /// The column of the right labels, of a file of rows: how well they are told is said at the end
    #[arg(long, value_name = "NAME", requires = "prompt_file")]
    pub(crate) label_column: Option<String>,
    /// The prompt as token ids
    #[arg(long, value_name = "1,2,3", group = "input", value_delimiter = ',')]
    pub(crate) ids: Option<Vec<u32>>,
    /// New tokens at most; -1 = until the end token
    #[arg(short, value_name = "N", allow_negative_numbers = true)]
    pub(crate) n: Option<i64>,
    /// Temperature; 0 = greedy, as masks are filled where no flag of the sampler is given
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub(crate) temp: Option<f64>,
    /// Keep the K likeliest tokens; 0 = all
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub(crate) top_k: Option<i64>,
    /// Keep the likeliest tokens that together reach probability P; 1 = all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: Option<f64>,
    /// Keep tokens at least P times as likely as the likeliest; 0 = all
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub(crate) min_p: Option<f64>,
    /// Make recent tokens less likely; 1 = off
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) repeat_penalty: Option<f64>,
    /// How many tokens count as recent; 0 = off, -1 = the whole context
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) repeat_last_n: Option<i64>,
    /// The same seed gives the same text; -1 = a new one
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) seed: Option<i64>,
    /// How many texts for each prompt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(crate) num_samples: Option<u64>,
    /// End a text where TEXT appears; can be given several times
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) stop: Vec<String>,
    /// Print the N likeliest next tokens and their probabilities instead of a text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with_all = ["n", "temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "seed", "num_samples", "stop"])]
    pub(crate) next: Option<u64>,
    /// cpu, cuda, cuda:N or metal; default: the best there is
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Threads to work with; default: one a core. The text does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) threads: Option<u64>,
    /// Print one JSON document, with each choice traced
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The model's folder.
    pub(super) fn model(&self) -> &Path {
        self.model.as_deref().unwrap_or_else(|| Path::new(self.words.first().map_or("", String::as_str)))
    }

    /// The texts that were typed.
    pub(super) fn prompts(&self) -> &[String] {
        if self.words.is_empty() { &self.prompt } else { &self.words[1..] }
    }

    /// Whether a flag was given that only a draw by chance heeds.
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
            "DIR TEXT --model --prompt --prompt-file --text-column --pair-column --label-column --ids -n --temp --top-k --top-p --min-p --repeat-penalty \
             --repeat-last-n --seed --num-samples --stop --next --device --threads --json"
        );
        command.debug_assert();
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let kind = |line: &str| Args::try_parse_from(line.split(' ')).unwrap_err().kind();
        assert_eq!(kind("sample --prompt a"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("sample --model m --prompt a --ids 1"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("sample --model m --prompt a --next 5 --temp 1"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("sample --model m --ids 1,x"), ErrorKind::ValueValidation);
        assert_eq!(kind("sample --model m --num-samples 0"), ErrorKind::ValueValidation);
        assert_eq!(kind("sample --model m --colour"), ErrorKind::UnknownArgument);
    }

    #[test]
    fn negative_off_values_and_odd_texts_can_be_typed() {
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
