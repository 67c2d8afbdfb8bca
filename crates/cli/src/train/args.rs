//! The command line of `train`, as stated in the README.

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
  train --config fox.toml --resume                         continue from the newest intact checkpoint
  train --config fox.toml --overwrite                      replace the existing run
  train --config fox.toml --dry-run                        show the plan without training
  train --config fox.toml --dry-run --show-rows 3          show the targets in the first rows
  train --list                                             the built-in configs
  train --keys train                                       what each key of [train] means
  train --check runs/fox                                   are all checkpoints intact?
  train --verify runs/fox --from 100 --to 200              replay those steps and compare every bit

Exit codes: 0 done; 1 failed; 2 bad usage or bad config; 130 and 143 stopped by SIGINT and SIGTERM, after a checkpoint.",
    group = ArgGroup::new("what").required(true).args(["config", "check", "verify", "list", "keys"])
)]
pub(crate) struct Args {
    /// The config: a file, the name of one in configs/, or of a built-in one (--list)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Override a key of the config; VALUE is TOML, else a string
    #[arg(long, value_name = "section.key=VALUE", conflicts_with_all = ["check", "verify"])]
    pub(crate) set: Vec<String>,

    /// Continue from the newest intact checkpoint of the run
    #[arg(long, conflicts_with_all = ["check", "verify"])]
    pub(crate) resume: bool,

    /// Replace an existing run; the old one is kept aside until the new one has its first checkpoint
    #[arg(long, conflicts_with_all = ["resume", "eval", "dry_run", "check", "verify"])]
    pub(crate) overwrite: bool,

    /// Device: cpu, cuda, cuda:N or metal [default: the best available]
    #[arg(long, value_name = "DEVICE", conflicts_with = "check")]
    pub(crate) device: Option<String>,

    /// Threads; the results don't depend on the number [default: train.threads, else all cores]
    #[arg(long, value_name = "N", conflicts_with = "check")]
    pub(crate) threads: Option<usize>,

    /// The run's folder [default: runs/NAME, NAME being the config's]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "verify"])]
    pub(crate) out: Option<PathBuf>,

    /// Evaluate the latest checkpoint on the validation set and exit
    #[arg(long, conflicts_with_all = ["resume", "dry_run", "check", "verify"])]
    pub(crate) eval: bool,

    /// Show device, vocabulary, parameters, steps and memory, and exit
    #[arg(long, conflicts_with_all = ["check", "verify"])]
    pub(crate) dry_run: bool,

    /// With --dry-run: also show the first N training rows, with their targets in color, or between ⟦ and ⟧; with
    /// --json, these rows alone
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) show_rows: Option<u64>,

    /// Show only warnings and errors
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Write the result to stdout as one JSON document
    #[arg(long)]
    pub(crate) json: bool,

    /// Check every checkpoint of the run in DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) check: Option<PathBuf>,

    /// Replay steps of the run in DIR and compare
    #[arg(long, value_name = "DIR")]
    pub(crate) verify: Option<PathBuf>,

    /// The checkpoint to start from [default: the oldest]
    #[arg(long, value_name = "STEP", conflicts_with_all = ["config", "check"])]
    pub(crate) from: Option<u64>,

    /// The last step to replay [default: the newest checkpoint]
    #[arg(long, value_name = "STEP", conflicts_with_all = ["config", "check"])]
    pub(crate) to: Option<u64>,

    /// List the built-in configs
    #[arg(long, conflicts_with_all = ["set", "resume", "overwrite", "device", "threads", "out", "eval", "dry_run"])]
    pub(crate) list: bool,

    /// Explain every key of a config, or those of a section
    #[arg(long, value_name = "SECTION", num_args = 0..=1, default_missing_value = "",
          conflicts_with_all = ["set", "resume", "overwrite", "device", "threads", "out", "eval", "dry_run"])]
    pub(crate) keys: Option<String>,

    /// Show nothing: another process does
    #[arg(skip)]
    pub(crate) silent: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_valid() {
        Args::command().debug_assert();
    }

    /// The flags are a contract: other programs use them.
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
                "--show-rows N",
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
    fn conflicting_arguments_are_refused() {
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
            &["train", "--config", "a", "--show-rows", "3"],
            &["train", "--config", "a", "--dry-run", "--show-rows", "0"],
        ] {
            assert!(Args::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
        assert!(Args::try_parse_from(["train", "--verify", "a", "--from", "1", "--to", "2"]).is_ok());
    }
}
