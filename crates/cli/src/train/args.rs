//! The command line, word for word as README states it.

use std::path::PathBuf;

use clap::{ArgGroup, Parser};

/// Trains a transformer from one TOML file.
#[derive(Debug, Parser)]
#[command(
    name = "train",
    version,
    about = "Trains a transformer from one TOML file.",
    after_help = "\
Examples:
  train --config fox.toml                                  train, into runs/fox
  train --config fox.toml --set train.steps=500 --out x    change a key, choose the folder
  train --config fox.toml --resume                         go on from the newest whole checkpoint
  train --config fox.toml --overwrite                      begin anew in place of the run that is there
  train --config fox.toml --dry-run                        show what would be done
  train --list                                             the configs that are built in
  train --keys train                                       what each key of [train] means
  train --check runs/fox                                   is everything on the disk whole?
  train --verify runs/fox --from 100 --to 200              do those steps again and compare every bit

Exit codes: 0 done; 1 failed; 2 bad usage or bad config; 130 and 143 stopped by SIGINT and SIGTERM, after a checkpoint.",
    group = ArgGroup::new("what").required(true).args(["config", "check", "verify", "list", "keys"])
)]
pub(crate) struct Args {
    /// The config: a file, the name of one in configs/, or of one built in (--list)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Change a key of the config; VALUE is TOML, else a string
    #[arg(long, value_name = "section.key=VALUE", conflicts_with_all = ["check", "verify"])]
    pub(crate) set: Vec<String>,

    /// Go on from the newest whole checkpoint of the run
    #[arg(long, conflicts_with_all = ["check", "verify"])]
    pub(crate) resume: bool,

    /// Begin anew where a run is; the old one stands aside until the new one has its first checkpoint
    #[arg(long, conflicts_with_all = ["resume", "eval", "dry_run", "check", "verify"])]
    pub(crate) overwrite: bool,

    /// Where to compute: cpu, cuda, cuda:N or metal [default: the best there is]
    #[arg(long, value_name = "DEVICE", conflicts_with = "check")]
    pub(crate) device: Option<String>,

    /// Threads; any number gives the same bits [default: train.threads, else all cores]
    #[arg(long, value_name = "N", conflicts_with = "check")]
    pub(crate) threads: Option<usize>,

    /// The run's folder [default: runs/NAME, after the config]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "verify"])]
    pub(crate) out: Option<PathBuf>,

    /// Evaluate the latest checkpoint on the validation set, and stop
    #[arg(long, conflicts_with_all = ["resume", "dry_run", "check", "verify"])]
    pub(crate) eval: bool,

    /// Show device, vocabulary, parameters, steps and memory, and stop
    #[arg(long, conflicts_with_all = ["check", "verify"])]
    pub(crate) dry_run: bool,

    /// Show nothing but warnings and errors
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Write the result to stdout as one JSON document
    #[arg(long)]
    pub(crate) json: bool,

    /// Check every checkpoint of the run in DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) check: Option<PathBuf>,

    /// Do steps of the run in DIR again, and compare
    #[arg(long, value_name = "DIR")]
    pub(crate) verify: Option<PathBuf>,

    /// The checkpoint to begin after [default: the oldest]
    #[arg(long, value_name = "STEP", conflicts_with_all = ["config", "check"])]
    pub(crate) from: Option<u64>,

    /// The last step to do again [default: the newest checkpoint]
    #[arg(long, value_name = "STEP", conflicts_with_all = ["config", "check"])]
    pub(crate) to: Option<u64>,

    /// List the configs that are built in
    #[arg(long, conflicts_with_all = ["set", "resume", "overwrite", "device", "threads", "out", "eval", "dry_run"])]
    pub(crate) list: bool,

    /// Explain every key of a config, or those of a section
    #[arg(long, value_name = "SECTION", num_args = 0..=1, default_missing_value = "",
          conflicts_with_all = ["set", "resume", "overwrite", "device", "threads", "out", "eval", "dry_run"])]
    pub(crate) keys: Option<String>,

    /// Show nothing at all: another process does
    #[arg(skip)]
    pub(crate) silent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_sound() {
        Args::command().debug_assert();
    }

    /// These words are a contract: others build on them.
    #[test]
    fn the_command_line_is_frozen() {
        let command = Args::command();
        let flags: Vec<String> = command
            .get_arguments()
            .map(|arg| {
                let value = arg.get_action().takes_values().then(|| arg.get_value_names()).flatten();
                let value = value.map_or(String::new(), |names| format!(" {}", names[0]));
                format!("--{}{value}", arg.get_long().unwrap_or_default())
            })
            .collect();
        assert_eq!(
            flags,
            [
                "--config FILE",
                "--set section.key=VALUE",
                "--resume",
                "--overwrite",
                "--device DEVICE",
                "--threads N",
                "--out DIR",
                "--eval",
                "--dry-run",
                "--quiet",
                "--json",
                "--check DIR",
                "--verify DIR",
                "--from STEP",
                "--to STEP",
                "--list",
                "--keys SECTION",
            ]
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for wrong in [
            &["train"][..],
            &["train", "--config", "a", "--check", "b"],
            &["train", "--check", "a", "--set", "train.steps=1"],
            &["train", "--verify", "a", "--resume"],
            &["train", "--config", "a", "--from", "1"],
            &["train", "--check", "a", "--threads", "2"],
            &["train", "--config", "a", "--threads", "-1"],
            &["train", "--config", "a", "--eval", "--resume"],
            &["train", "--config", "a", "--overwrite", "--resume"],
            &["train", "--config", "a", "b"],
        ] {
            assert!(Args::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
        assert!(Args::try_parse_from(["train", "--verify", "a", "--from", "1", "--to", "2"]).is_ok());
    }
}
