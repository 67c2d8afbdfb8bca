//! The program `explain`: the walkthrough in a terminal and as JSON, and refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn explain(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_explain")).args(args).envs(environment.iter().copied()).output().unwrap()
}

#[test]
fn the_walkthrough_is_in_order_without_color_and_within_the_width() {
    let output = explain(&["--walkthrough"], &[("COLUMNS", "60")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !text.contains('\u{1b}'));
    let places: Vec<usize> = ["\n1. ", "\n2. ", "\n3. ", "\n4. ", "\n5. ", "\n6. ", "\n7. ", "\n8. "]
        .map(|n| text.find(n).unwrap())
        .into();
    assert!(places.is_sorted(), "{places:?}");
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    for told in ["0.2693", "0.27", "0.26", "the model says \"jumps\"", "the model says \"fox\""] {
        assert!(text.contains(told), "{told}");
    }
}

#[test]
fn the_walkthrough_as_json_has_the_documented_shape() {
    let output = explain(&["--walkthrough", "--json"], &[]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &value["examples"][0];
    assert_eq!((first["predicted"].as_str(), first["target"].as_str()), (Some("fox"), Some("jumps")));
    for key in ["context", "wout", "values", "weights", "scores"] {
        assert!(first["gradients"][key].is_array(), "{key}");
    }
    assert!((first["loss"].as_f64().unwrap() - 1.312_010_348_149_625).abs() < 1e-6);
    assert!(first["steps_to_flip"].as_u64().unwrap() > 0);
}

#[test]
fn bad_usage_and_a_missing_model_exit_2_with_nothing_on_stdout() {
    for (args, code, word) in [
        (&[][..], 2, "--walkthrough"),
        (&["--model", "nowhere"], 2, "--text"),
        (&["--walkthrough", "--layer", "0"], 2, "--layer"),
        (&["--model", "nowhere", "--text", "fox"], 2, "nowhere"),
    ] {
        let output = explain(args, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_explain"))
        .arg("--walkthrough")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
