//! Loss curves and a checkpoint stored in the repository: later versions must give the same bits and read the same
//! files.
//!
//! Sums depend on the width of the processor's vectors, so each kind has a file of its own. Where a change of the
//! arithmetic is meant, `VULPES_WRITE_GOLDEN=1` writes the file of the machine it runs on anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vulpes_trainer::{Session, checkpoint};

use crate::support::{SMALL, plan, train};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// What decides the order of sums on this machine.
fn level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
            return "avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "avx2";
        }
    }
    "portable"
}

fn is_writing() -> bool {
    std::env::var_os("VULPES_WRITE_GOLDEN").is_some()
}

fn curve(family: &str) -> Vec<f64> {
    let dir = tempfile::tempdir().expect("a folder");
    let family = format!("model.family={family}");
    let objective = if family.ends_with("bert") { "masked_token" } else { "next_token" };
    let objective = format!("objective.kind={objective}");
    // A small step: the curve shall come from the gradients, not from chaos.
    let mut settings = vec![
        family.as_str(),
        &objective,
        "train.steps=100",
        "train.eval_every=0",
        "train.checkpoint_every=0",
    ];
    if family.ends_with("fox") {
        settings.extend(["model.n_layer=1", "model.n_head=1", "model.dropout=0"]);
    }
    let plan = plan(&dir.path().join("run"), SMALL, &settings);
    train(&plan, false, u64::MAX).expect("a run");
    let text = std::fs::read_to_string(plan.run_dir.join("metrics.jsonl")).expect("metrics");
    let loss =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON").get("loss")?.as_f64();
    text.lines().filter_map(loss).collect()
}

#[test]
fn a_hundred_losses_of_each_family_are_the_stored_ones_to_the_bit() {
    let path = fixtures().join("golden").join(format!("{}.json", level()));
    let found: BTreeMap<&str, Vec<f64>> =
        ["bert", "fox", "gpt2", "llama"].into_iter().map(|family| (family, curve(family))).collect();
    assert!(found.values().all(|curve| curve.len() == 100 && curve[99] < curve[0]));
    if is_writing() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, format!("{:#}\n", serde_json::json!(found))).expect("written");
    }
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("no stored curves for {} yet: nothing to compare with", level());
        return;
    };
    let stored: BTreeMap<String, Vec<f64>> = serde_json::from_str(&text).expect("JSON");
    for (family, curve) in found {
        let first = curve.iter().zip(&stored[family]).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(first, None, "{family} on {}: the loss of this step (from 0) is another", level());
    }
}

const FORMAT_1: &[&str] =
    &["model.d_model=4", "model.n_layer=1", "train.steps=2", "train.seed=3", "schedule.warmup_steps=0"];

/// A run's folder as this version writes it, for the next ones to read.
#[test]
fn a_checkpoint_of_format_1_is_read() {
    let dir = fixtures().join("format-1");
    if is_writing() {
        let _ = std::fs::remove_dir_all(&dir);
        let target = tempfile::tempdir().expect("a folder");
        let plan = plan(&target.path().join("run"), SMALL, FORMAT_1);
        train(&plan, false, u64::MAX).expect("a run");
        std::fs::create_dir_all(&dir).expect("a folder");
        let from = plan.run_dir.join("checkpoints/step-00000002");
        for entry in std::fs::read_dir(from).expect("a folder").flatten() {
            std::fs::copy(entry.path(), dir.join(entry.file_name())).expect("copied");
        }
    }
    let whole = checkpoint::verify(&dir).expect("whole");
    assert_eq!((whole.state.format, whole.state.step, whole.state.updates), (1, 2, 2));
    let run = tempfile::tempdir().expect("a folder");
    let plan = plan(&run.path().join("run"), SMALL, FORMAT_1);
    let session = Session::restore(&plan, &whole).expect("restored");
    assert_eq!(session.digest().expect("a digest"), whole.state.digest);
}
