//! Stored loss curves and a stored checkpoint: later versions must give the same bits and read the same files.
//!
//! One file of curves is valid for every processor. After an intended change of the arithmetic, rewrite it with
//! `VULPES_WRITE_GOLDEN=1`. `VULPES_SIMD` limits the kernels' instruction sets, with which the curves must be the same
//! (a test below); `qemu-x86_64` (Debian: `qemu-user`) emulates older processors:
//!
//! ```sh
//! VULPES_WRITE_GOLDEN=1 cargo test --release --workspace --test workspace a_hundred_losses
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Haswell" cargo test --release --workspace --test workspace a_hundred_losses
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Nehalem" cargo test --release --workspace --test workspace a_hundred_losses
//! ```
//!
//! Haswell has AVX2 and FMA, Nehalem neither.

use std::collections::BTreeMap;

use vulpes_runs::{Session, checkpoint};

use crate::support::{SMALL, fixtures, plan, train};

fn is_writing() -> bool {
    std::env::var_os("VULPES_WRITE_GOLDEN").is_some()
}

fn curve(family: &str, dtype: &str, more: &[&str]) -> Vec<f64> {
    let dir = tempfile::tempdir().expect("a folder");
    let family = format!("model.family={family}");
    let objective = if family.ends_with("bert") { "masked_token" } else { "next_token" };
    let (objective, dtype) = (format!("objective.kind={objective}"), format!("train.dtype={dtype}"));
    // A small learning rate: the curve must depend on the gradients, not on chaos.
    let mut settings = vec![
        family.as_str(),
        &objective,
        &dtype,
        "train.steps=100",
        "train.eval_every=0",
        "train.checkpoint_every=0",
    ];
    if family.ends_with("fox") {
        settings.extend(["model.n_layer=1", "model.n_head=1", "model.dropout=0"]);
    }
    settings.extend(more);
    let plan = plan(&dir.path().join("run"), SMALL, &settings);
    train(&plan, false, u64::MAX).expect("a run");
    let text = std::fs::read_to_string(plan.run_dir.join("metrics.jsonl")).expect("metrics");
    let loss =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON").get("loss")?.as_f64();
    text.lines().filter_map(loss).collect()
}

#[test]
fn a_hundred_losses_of_each_family_match_the_stored_bits() {
    let path = fixtures().join("golden/curves.json");
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for family in ["bert", "fox", "gpt2", "llama"] {
        found.insert(family.to_owned(), curve(family, "float32", &[]));
        found.insert(format!("{family}, bfloat16"), curve(family, "bf16", &[]));
    }
    assert!(found.values().all(|curve| curve.len() == 100 && curve[99] < curve[0]));
    if is_writing() {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, format!("{:#}\n", serde_json::json!(found))).expect("written");
        eprintln!("wrote {}", path.display());
        return;
    }
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; see the head of tests/golden.rs", path.display()));
    let stored: BTreeMap<String, Vec<f64>> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found.len(), stored.len());
    for (name, curve) in found {
        let first = curve.iter().zip(&stored[&name]).position(|(a, b)| a.to_bits() != b.to_bits());
        let shown = first.map(|step| (step, curve[step], stored[&name][step]));
        assert_eq!(shown, None, "{name}: step (from 0), its loss, the stored one");
        assert_eq!(curve.len(), stored[&name].len());
    }
}

/// Compares the curves of a process whose kernels use fewer instruction sets than the processor has.
fn curves_with(simd: &str) {
    let program = std::env::current_exe().expect("this program");
    let test = "golden::a_hundred_losses_of_each_family_match_the_stored_bits";
    let mut command = std::process::Command::new(program);
    let done = command.args([test, "--exact"]).env("VULPES_SIMD", simd).env_remove("VULPES_WRITE_GOLDEN");
    let done = done.output().expect("a process");
    let said = String::from_utf8_lossy(&done.stdout);
    if String::from_utf8_lossy(&done.stderr).contains("this processor has no") {
        eprintln!("no {simd} here: the curves are compared with what is available");
        return;
    }
    assert!(done.status.success() && said.contains("1 passed"), "{simd}: {said}");
}

#[test]
fn the_curves_are_the_same_with_avx2() {
    curves_with("avx2");
}

#[test]
fn the_curves_are_the_same_without_simd() {
    curves_with("plain");
}

/// Recomputation changes no bit, including dropout, frozen parameters and relative position biases shared by blocks.
#[test]
fn recomputation_is_bit_exact() {
    let of = |family: &str, more: &[&str], recompute: &str| {
        let settings = [more, &["train.steps=30", recompute]].concat();
        curve(family, "float32", &settings).into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    for (family, more) in [
        ("gpt2", vec!["model.dropout=0.1", "train.accumulate=2"]),
        ("llama", vec!["train.freeze=[\"blocks.0.*\", \"embedding.*\"]"]),
        ("bert", vec!["model.relative_bias=32"]),
        ("fox", vec![]),
    ] {
        let kept = of(family, &more, "train.recompute=false");
        assert_eq!(kept.len(), 30);
        assert_eq!(of(family, &more, "train.recompute=true"), kept, "{family}");
    }
}

/// Stochastic rounding of moment estimates in bfloat16 is reproducible, also after a resume.
#[test]
fn a_run_with_rounded_moments_is_reproducible_and_resumes_bit_exactly() {
    let run = |stops: &[&str]| {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = vec!["optimizer.state_dtype=bf16", "train.eval_every=0", "train.steps=12"];
        settings.extend(["train.checkpoint_every=4", "train.recompute=true"]);
        for stop in stops {
            let first = plan(&dir.path().join("run"), SMALL, &[settings.as_slice(), &[stop]].concat());
            train(&first, false, 8).expect("the first part");
        }
        let whole = plan(&dir.path().join("run"), SMALL, &settings);
        train(&whole, !stops.is_empty(), u64::MAX).expect("a run");
        let state = std::fs::read(whole.run_dir.join("checkpoints/step-00000012/train_state.safetensors"))
            .expect("state");
        let model = std::fs::read(whole.run_dir.join("checkpoints/step-00000012/model.safetensors"))
            .expect("weights");
        (state, model)
    };
    let (state, model) = run(&[]);
    assert!(run(&["train.log_every=1"]) == (state.clone(), model.clone()), "resumed, other bits come out");
    let tensors = safetensors::SafeTensors::deserialize(&state).expect("safetensors");
    let moments = tensors.iter().filter(|(name, _)| name.starts_with("m.") || name.starts_with("v."));
    assert!(moments.map(|(_, tensor)| tensor.dtype()).all(|dtype| dtype == safetensors::Dtype::BF16));
}

/// Gradients in bfloat16 don't depend on threads or on resuming, and train nearly as well.
#[test]
fn a_run_with_rounded_gradients_is_reproducible() {
    let both = ["train.gradient_dtype=bf16", "optimizer.state_dtype=bf16", "train.accumulate=3"];
    let more = ["train.steps=30", "train.shards=2"];
    let of = |own: &[&str]| curve("gpt2", "bf16", &[&both[2..], &more, own].concat());
    let one = of(&[&both[..2], &["train.threads=1"]].concat());
    assert_eq!(one.len(), 30);
    assert_eq!(of(&[&both[..2], &["train.threads=3", "train.recompute=true"]].concat()), one);
    let full = of(&[]);
    assert_ne!(full, one);
    assert!((full[29] - one[29]).abs() < 0.02 * full[0], "{} {}", full[29], one[29]);
}

const FORMAT_1: &[&str] =
    &["model.d_model=4", "model.n_layer=1", "train.steps=2", "train.seed=3", "schedule.warmup_steps=0"];

/// A checkpoint of the first version must stay readable. It is never rewritten: a new format gets a new folder.
#[test]
fn checkpoint_format_1_is_readable() {
    let whole = checkpoint::verify(&fixtures().join("format-1")).expect("whole");
    assert_eq!((whole.state.format, whole.state.step, whole.state.updates), (1, 2, 2));
    let run = tempfile::tempdir().expect("a folder");
    let plan = plan(&run.path().join("run"), SMALL, FORMAT_1);
    let session = Session::restore(&plan, &whole).expect("restored");
    assert_eq!(session.training.digest().expect("a digest"), whole.state.digest);
}
