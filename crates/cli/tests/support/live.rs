//! Helpers that compare pages with an embedded model with the programs.

use std::path::Path;

use serde_json::Value;

/// The output of `explain --json` for a folder.
pub(crate) fn explained(folder: &Path, args: &[&str]) -> Value {
    let mut explain = std::process::Command::new(env!("CARGO_BIN_EXE_explain"));
    let output = explain.arg("--model").arg(folder).args(args).arg("--json").output().unwrap();
    assert!(output.status.success(), "{folder:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks that two trees of numbers are equal within a tolerance.
#[track_caller]
pub(crate) fn close(ours: &Value, exact: &Value, fair: f64, of: &str) {
    match (ours.as_array(), exact.as_array()) {
        (Some(ours), Some(exact)) => {
            assert_eq!(ours.len(), exact.len(), "{of}");
            ours.iter().zip(exact).for_each(|(ours, exact)| close(ours, exact, fair, of));
        }
        _ => {
            let (ours, exact) = (ours.as_f64().unwrap(), exact.as_f64().unwrap());
            assert!((ours - exact).abs() < fair * (1.0 + exact.abs()), "{of}: {ours} and {exact}");
        }
    }
}

/// Checks that the page's script agrees with `explain --json`: logits, attention weights, most likely outputs.
#[track_caller]
pub(crate) fn agrees(said: &Value, value: &Value, of: &str) {
    assert_eq!((&said["ids"], &said["tokens"]), (&value["ids"], &value["tokens"]), "{of}");
    close(&said["logits"], &value["logits"], 1e-5, of);
    close(&said["attentions"], &value["attentions"], 1e-5, of);
    for (ours, exact) in said["next"].as_array().unwrap().iter().zip(value["next"].as_array().unwrap()) {
        close(&ours["probability"], &exact["probability"], 1e-5, of);
    }
}

/// The data of a page, as its script reads it.
pub(crate) fn data_of(page: &Path) -> Value {
    let html = std::fs::read_to_string(page).unwrap();
    let data = html.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    serde_json::from_str(data).unwrap()
}
