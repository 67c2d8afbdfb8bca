//! Loss curves and a checkpoint stored in the repository: later versions must give the same bits and read the same
//! files.
//!
//! Sums depend on the width of the processor's vectors and on whether it has a fused multiply-add, so each of the three
//! kinds of kernels has a file of its own. Where a change of the arithmetic is meant, the curves are stored anew with
//! `VULPES_WRITE_GOLDEN=1`, on an x86-64 machine with AVX-512 and `qemu-x86_64` (Debian: `qemu-user`), which shows the
//! same program processors with less:
//!
//! ```sh
//! VULPES_WRITE_GOLDEN=1 cargo test --release --workspace --test workspace a_hundred_losses
//! VULPES_WRITE_GOLDEN=1 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Haswell" cargo test --release --workspace --test workspace a_hundred_losses
//! VULPES_WRITE_GOLDEN=1 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Nehalem" cargo test --release --workspace --test workspace a_hundred_losses
//! ```
//!
//! On another architecture there is nothing to compare with: the test is ignored and says so. The first line with
//! `-- --include-ignored` writes a file for it.
//!
//! The first writes `avx512.json` (`avx2.json` where the machine has no more), the second `avx2.json`, the third
//! `portable.json`. Without the variable the same lines compare.

use std::collections::BTreeMap;

use vulpes_runs::{Session, checkpoint};

use crate::support::{SMALL, fixtures, plan, train};

/// What the kernels choose on this machine.
fn level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (avx2, avx512) {
            (true, true) => "avx512",
            (true, false) => "avx2",
            (false, _) => "portable",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
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
#[cfg_attr(
    not(target_arch = "x86_64"),
    ignore = "no curves of this architecture are stored: nothing to compare with"
)]
fn a_hundred_losses_of_each_family_are_the_stored_ones_to_the_bit() {
    let path = fixtures().join("golden").join(format!("{}.json", level()));
    let found: BTreeMap<&str, Vec<f64>> =
        ["bert", "fox", "gpt2", "llama"].into_iter().map(|family| (family, curve(family))).collect();
    assert!(found.values().all(|curve| curve.len() == 100 && curve[99] < curve[0]));
    if is_writing() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, format!("{:#}\n", serde_json::json!(found))).expect("written");
        eprintln!("wrote {}", path.display());
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; how it is made stands at the head of tests/golden.rs", path.display())
    });
    let stored: BTreeMap<String, Vec<f64>> = serde_json::from_str(&text).expect("JSON");
    for (family, curve) in found {
        let first = curve.iter().zip(&stored[family]).position(|(a, b)| a.to_bits() != b.to_bits());
        let shown = first.map(|step| (step, curve[step], stored[family][step]));
        assert_eq!(shown, None, "{family} on {}: step (from 0), its loss, the stored one", level());
        assert_eq!(curve.len(), stored[family].len());
    }
}

/// The curves of the other kernels can't be computed here, but they can be there, and be the same but for rounding.
#[test]
fn stored_curves_of_all_kernels_agree_up_to_rounding() {
    let read = |level: &str| -> BTreeMap<String, Vec<f64>> {
        let path = fixtures().join("golden").join(format!("{level}.json"));
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("JSON")
    };
    let wide = read("avx512");
    for level in ["avx2", "portable"] {
        for (family, curve) in read(level) {
            assert_eq!(curve.len(), 100);
            for (step, (one, other)) in curve.iter().zip(&wide[&family]).enumerate() {
                assert!((one - other).abs() < 1e-3 * other, "{level}, {family}, step {step}: {one}, {other}");
            }
        }
    }
}

const FORMAT_1: &[&str] =
    &["model.d_model=4", "model.n_layer=1", "train.steps=2", "train.seed=3", "schedule.warmup_steps=0"];

/// A checkpoint as the first version wrote it, to be read for ever after. It is never written anew: a new format gets a
/// folder of its own.
#[test]
fn checkpoint_format_1_is_readable() {
    let whole = checkpoint::verify(&fixtures().join("format-1")).expect("whole");
    assert_eq!((whole.state.format, whole.state.step, whole.state.updates), (1, 2, 2));
    let run = tempfile::tempdir().expect("a folder");
    let plan = plan(&run.path().join("run"), SMALL, FORMAT_1);
    let session = Session::restore(&plan, &whole).expect("restored");
    assert_eq!(session.training.digest().expect("a digest"), whole.state.digest);
}
