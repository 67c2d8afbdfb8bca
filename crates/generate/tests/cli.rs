//! The program `sample` on folders that are no model, and on words that it doesn't know.

use std::process::{Command, Output};

fn sample(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sample")).args(args).output().unwrap()
}

#[test]
fn bad_usage_exits_2_and_a_missing_model_1_with_nothing_on_stdout() {
    for (args, code, word) in [
        (&["--prompt", "fox"][..], 2, "--model"),
        (&["--model", "nowhere", "--colour"], 2, "--colour"),
        (&["--model", "nowhere", "--prompt", "a", "--next", "3", "--seed", "1"], 2, "--seed"),
        (&["--model", "nowhere", "--prompt-file", "nothing.txt"], 2, "nothing.txt"),
        (&["--model", "nowhere", "--device", "tpu"], 2, "tpu"),
        (&["--model", "nowhere", "--prompt", "fox"], 1, "nowhere"),
    ] {
        let output = sample(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = sample(&["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--repeat-last-n"));
    assert!(sample(&["--version"]).status.success());
}
