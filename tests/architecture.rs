//! The rules that keep the workspace simple: who may depend on whom, and how a file looks.

use std::collections::BTreeMap;

use crate::repository::{names, read, rust_files};

/// Each crate, and those of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("random", &[]),
    ("ops", &["random"]),
    ("model", &["ops", "random"]),
    ("data", &["random"]),
    ("generate", &["data", "model", "ops", "random"]),
    ("inspect", &["data", "model", "ops"]),
    ("trainer", &["data", "generate", "model", "ops", "random"]),
    ("bench", &["data", "generate", "inspect", "model", "ops", "random", "trainer"]),
];

const LONGEST_FILE: usize = 500;

#[test]
fn dependencies_follow_the_arrows() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    assert_eq!(
        names("crates"),
        allowed.keys().copied().collect::<Vec<_>>(),
        "every crate has its row in ARROWS"
    );
    for (name, allowed) in allowed {
        let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str().unwrap(), format!("vulpes-{name}"));
        for dependency in manifest.get("dependencies").unwrap().as_table().unwrap().keys() {
            if let Some(ours) = dependency.strip_prefix("vulpes-") {
                assert!(allowed.contains(&ours), "crates/{name} may not depend on crates/{ours}");
            }
        }
    }
}

#[test]
fn data_and_random_know_no_tensor() {
    for path in
        rust_files().iter().filter(|p| p.starts_with("crates/data/") || p.starts_with("crates/random/"))
    {
        assert!(!read(path).contains("candle"), "{path} speaks of candle");
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for path in rust_files() {
        let text = read(&path);
        assert!(text.starts_with("//!"), "{path} doesn't open with //!");
        let n_line = text.lines().count();
        assert!(n_line <= LONGEST_FILE, "{path} has {n_line} lines; cut it at a seam below {LONGEST_FILE}");
    }
}

#[test]
fn each_crate_names_what_is_public_and_how_data_flows() {
    for name in names("crates") {
        let text = read(&format!("crates/{name}/src/lib.rs"));
        assert!(
            text.contains('→'),
            "crates/{name}/src/lib.rs doesn't open with the crate's data flow (a → b)"
        );
        assert!(
            text.lines().count() <= 150,
            "crates/{name}/src/lib.rs is more than a list of what is public"
        );
    }
}

/// A test never passes by not running: it is ignored, says why, and `.ci/run` knows what it needs.
#[test]
fn every_ignored_test_says_what_it_needs() {
    let ci = read(".ci/run");
    for path in rust_files() {
        let mut module = "";
        for line in read(&path).lines().map(str::trim) {
            module = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(" {")).unwrap_or(module);
            let Some(reason) = line.strip_prefix("#[ignore") else { continue };
            let reason = reason.trim_start_matches(" = \"");
            if reason.starts_with("needs ") {
                let thing = module.strip_prefix("needs_");
                let thing = thing.unwrap_or_else(|| panic!("{path}: {line} stands in no module needs_THING"));
                assert!(ci.contains(&format!("\nneed {thing} ")), ".ci/run does not know {thing} of {path}");
            } else {
                let known = reason.starts_with("long: ") || reason.starts_with("started by ");
                assert!(known, "{path}: {line} says neither what the test needs nor how long it takes");
            }
        }
    }
}
