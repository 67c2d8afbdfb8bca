//! Loading takes little more memory than the model: files are mapped, and their pages are released.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use candle_core::{DType, Device};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

/// A value of `/proc/self/status`, in bytes.
fn status(key: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Loads the folder in `VULPES_MEMORY_DIR` in a separate process, and prints the memory and time.
#[test]
#[ignore = "started by loading_peaks_below_1_3_times_the_model"]
fn load_and_measure() {
    let dir = std::env::var_os("VULPES_MEMORY_DIR").expect("started by another test");
    let before = status("VmRSS");
    let start = std::time::Instant::now();
    let loaded = folder::load(dir.as_ref()).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let size = 4 * loaded.transformer.parameters().numel();
    let ratio = (status("VmHWM") - before) as f64 / size as f64;
    println!("{} MB loaded in {seconds:.2} s with a peak of {ratio:.2} times that", size / 1_000_000);
    assert!(ratio > 0.9, "the peak can't be below the model itself");
    assert!(ratio < 1.3);
}

/// `VULPES_MEMORY_D` makes the model wider than the default of 512.
#[test]
fn loading_peaks_below_1_3_times_the_model() {
    let d_model = std::env::var("VULPES_MEMORY_D").map_or(512, |d| d.parse().unwrap());
    let out = tempfile::tempdir().unwrap();
    let section = ModelSection {
        family: Some(Family::Gpt2),
        n_layer: Some(6),
        n_head: Some(8),
        d_model: Some(d_model),
        ..ModelSection::default()
    };
    let config = section.resolve(16 * d_model, Head::NextToken);
    let model = Transformer::init(&config, 1, DType::F32, &Device::Cpu).unwrap();
    folder::save(out.path(), &model, &folder::Extra::default()).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "load_and_measure", "--ignored", "--nocapture"])
        .env("VULPES_MEMORY_DIR", out.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    println!("{said}");
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
}
