//! The command line of `explain`. Its flags are a contract: a test freezes them.

use std::path::PathBuf;

use clap::{ArgGroup, Parser};

/// Shows what attention does: in a worked example, or in a trained model.
#[derive(Debug, Parser)]
#[command(name = "explain", version, max_term_width = 100)]
#[command(group = ArgGroup::new("what").required(true))]
#[command(group = ArgGroup::new("input"))]
#[command(after_help = "\
Examples:
  explain runs/fox \"The quick brown fox\"                      scores, weights, context, next words
  explain runs/fox \"The quick brown fox\" --html fox.html      the same as a page to click through
  explain runs/fox \"The quick brown fox\" --target jumps       what \"jumps\" depends on
  explain runs/fox \"The quick brown fox\" --target jumps --teachers 5   the rows that taught it, proved
  explain runs/fox-multihead \"The quick\" --layer 1 --head 3   one head alone
  explain --film runs/fox --html film.html                     how it was learned
  explain --walkthrough                                        the worked example
  explain --walkthrough --html attention.html                  the same, interactive")]
pub(crate) struct Args {
    /// Compute the example "The quick brown fox jumps" from weights to prediction and back
    #[arg(long, group = "what", conflicts_with_all = ["input", "layer", "head", "all_logits", "svg", "gradients", "target", "cell"])]
    pub(crate) walkthrough: bool,
    /// A model folder, a run folder (its model/ is used), a GGUF file, or a model's name on the hub (ORG/NAME,
    /// ORG/NAME@REVISION)
    #[arg(long, value_name = "DIR", group = "what", requires = "input")]
    pub(crate) model: Option<PathBuf>,
    /// The run or model folder, as --model
    #[arg(value_name = "RUN", group = "what", requires = "input")]
    pub(crate) run: Option<PathBuf>,
    /// An adapter applied to the model: a folder in PEFT's format, or a run that trained one
    #[arg(long, value_name = "DIR", requires = "input")]
    pub(crate) adapter: Option<PathBuf>,
    /// A run folder whose film (train.film = true) becomes a page
    #[arg(long, value_name = "DIR", group = "what", requires = "html",
          conflicts_with_all = ["input", "layer", "head", "json", "svg", "gradients", "target"])]
    pub(crate) film: Option<PathBuf>,
    /// The text to read
    #[arg(long, value_name = "TEXT", group = "input", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// The text, as --text
    #[arg(value_name = "TEXT", group = "input")]
    pub(crate) words: Option<String>,
    /// The second text of a pair
    #[arg(long, value_name = "TEXT", conflicts_with = "ids", requires = "input", allow_hyphen_values = true)]
    pub(crate) pair: Option<String>,
    /// The text as token ids
    #[arg(long, value_name = "1,2,3", group = "input", value_delimiter = ',')]
    pub(crate) ids: Option<Vec<u32>>,
    /// Which text of a pair each of the ids belongs to
    #[arg(long, value_name = "0,0,1", requires = "ids", value_delimiter = ',')]
    pub(crate) token_types: Option<Vec<u32>>,
    /// Show this layer alone, from 0
    #[arg(long, value_name = "L")]
    pub(crate) layer: Option<usize>,
    /// Show this head alone, from 0
    #[arg(long, value_name = "H")]
    pub(crate) head: Option<usize>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json: the logits at every token, not only at the queried one
    #[arg(long, requires = "json")]
    pub(crate) all_logits: bool,
    /// Write the attention map of one head (--layer, --head) or the grid of all as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write a page that works offline: every head, the arithmetic of every cell; a small model is embedded, so that
    /// the page is interactive
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Show the norm of the loss gradient in every part of the model
    #[arg(long, requires = "target")]
    pub(crate) gradients: bool,
    /// The true next word, for gradients and knockouts
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    pub(crate) target: Option<String>,
    /// Break down the score of one cell into its sources: the positions of query and key, from 0
    #[arg(long, value_name = "QUERY,KEY", requires = "input", value_parser = cell)]
    pub(crate) cell: Option<(usize, usize)>,
    /// Find the K training rows that the target depends on, each proved by retraining without it; needs a run folder
    #[arg(long, value_name = "K", requires = "target")]
    pub(crate) teachers: Option<usize>,
    /// With --html: embed the model in the page whatever its size (up to 2 million parameters it is embedded by
    /// default)
    #[arg(long, requires = "html", conflicts_with_all = ["walkthrough", "film", "no_live"])]
    pub(crate) live: bool,
    /// With --html: leave the model out of the page
    #[arg(long, requires = "html", conflicts_with_all = ["walkthrough", "film"])]
    pub(crate) no_live: bool,
}

impl Args {
    /// Moves positional arguments to their flags.
    pub(super) fn named(mut self) -> Self {
        self.model = self.model.or(self.run.take());
        self.text = self.text.or(self.words.take());
        self
    }
}

/// Parses two positions such as `3,1`.
fn cell(typed: &str) -> Result<(usize, usize), String> {
    let places = typed
        .split_once(',')
        .and_then(|(query, key)| Some((query.trim().parse().ok()?, key.trim().parse().ok()?)));
    places.ok_or_else(|| "expected two positions in the text, from 0, such as 3,1".to_owned())
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
        assert_eq!(
            flags.join(" "),
            "--walkthrough --model RUN --adapter --film --text TEXT --pair --ids --token-types --layer --head \
             --json --all-logits --svg --html --gradients --target --cell --teachers --live --no-live"
        );
        command.debug_assert();
    }

    #[test]
    fn conflicting_arguments_are_refused() {
        let kind = |line: &str| Args::try_parse_from(line.split(' ')).unwrap_err().kind();
        assert_eq!(kind("explain --text a"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain --model m"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain m"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain m a --model m"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("explain m a --text b"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("explain --walkthrough --text a"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("explain --model m --text a --ids 1"), ErrorKind::ArgumentConflict);
        assert_eq!(kind("explain --film runs/fox"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain --model m --text a --gradients"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain --model m --text a --all-logits"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain --model m --text a --teachers 3"), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind("explain --model m --text a --cell 3"), ErrorKind::ValueValidation);
    }
}
