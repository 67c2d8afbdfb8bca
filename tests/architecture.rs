//! The rules that keep the workspace simple: dependencies between crates, and the form of files.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::repository::{names, read, root, rust_files};

/// Each crate, and the workspace crates that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("random", &[]),
    ("ops", &["random"]),
    ("model", &["ops", "random"]),
    ("data", &["random"]),
    ("generate", &["data", "model", "ops", "random"]),
    ("export", &["data", "model"]),
    ("inspect", &["data", "generate", "model", "ops", "random"]),
    ("collective", &["ops"]),
    ("trainer", &["collective", "data", "model", "ops", "random"]),
    ("runs", &["collective", "data", "generate", "model", "trainer"]),
    ("vulpes", &["data", "export", "generate", "inspect", "model", "ops", "runs", "trainer"]),
    ("cli", &["collective", "data", "export", "generate", "inspect", "model", "ops", "runs", "trainer"]),
];

const LONGEST_FILE: usize = 400;

/// The median of source files has fewer lines than this.
const MEDIAN_FILE: usize = 180;

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
        let package = if name == "vulpes" { name.to_owned() } else { format!("vulpes-{name}") };
        assert_eq!(manifest["package"]["name"].as_str().unwrap(), package);
        for dependency in manifest.get("dependencies").unwrap().as_table().unwrap().keys() {
            if let Some(ours) = dependency.strip_prefix("vulpes-") {
                assert!(allowed.contains(&ours), "crates/{name} may not depend on crates/{ours}");
            }
        }
    }
}

/// Arguments, terminals, signals and the allocator belong to programs.
#[test]
fn only_cli_has_dependencies_of_programs() {
    let programs = [
        "annotate-snippets",
        "anstream",
        "anyhow",
        "clap",
        "clap_complete",
        "clap_mangen",
        "indicatif",
        "libmimalloc-sys",
        "mimalloc",
        "rustyline",
        "signal-hook",
    ];
    for name in names("crates") {
        let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().unwrap();
        let listed = manifest["dependencies"].as_table().unwrap();
        let found: Vec<&str> = programs.into_iter().filter(|program| listed.contains_key(*program)).collect();
        let wanted = if name == "cli" { &programs[..] } else { &[] };
        assert_eq!(found, wanted, "crates/{name} depends on these of what cli alone needs");
    }
}

/// `ops` handles names but knows none: parameters belong to the model.
#[test]
fn ops_knows_no_parameter_by_name() {
    for path in rust_files().iter().filter(|path| path.starts_with("crates/ops/src/")) {
        let text = read(path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let known = ["\"blocks.", ".weight\"", ".bias\""].iter().find(|name| code.contains(**name));
        assert_eq!(known, None, "{path} speaks of a parameter");
    }
}

#[test]
fn data_and_random_do_not_depend_on_tensors() {
    for path in
        rust_files().iter().filter(|p| p.starts_with("crates/data/") || p.starts_with("crates/random/"))
    {
        assert!(!read(path).contains("candle"), "{path} speaks of candle");
    }
}

#[test]
fn every_file_has_a_description_and_stays_short() {
    let mut lengths = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        assert!(text.starts_with("//!"), "{path} doesn't open with //!");
        let n_line = text.lines().count();
        assert!(n_line <= LONGEST_FILE, "{path} has {n_line} lines; cut it at a seam below {LONGEST_FILE}");
        if path.contains("/src/") {
            lengths.push(n_line);
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < MEDIAN_FILE, "half of the source files have {median} lines or more");
}

/// A crate's public items are those that its lib.rs, and the modules that lib.rs makes public, list by name.
#[test]
fn only_lib_rs_and_its_public_modules_list_what_is_public() {
    for name in names("crates") {
        let source = format!("crates/{name}/src");
        let mut opening = read(&format!("{source}/lib.rs"));
        if opening.contains("#![doc = include_str!(\"../README.md\")]") {
            opening = read(&format!("crates/{name}/README.md"));
        }
        assert!(opening.lines().take(12).any(|line| line.contains('→')), "{name}: no data flow (a → b)");
        for path in rust_files().iter().filter(|path| path.starts_with(&source)) {
            for line in read(path).lines().filter(|line| line.trim_start().starts_with("pub use ")) {
                assert!(!line.contains('*'), "{path}: `{}` doesn't say what is public", line.trim());
                let folder = path.strip_suffix("/mod.rs").map(|folder| &folder[source.len() + 1..]);
                let in_a_list =
                    path.ends_with("/lib.rs") || folder.is_some_and(|folder| !folder.contains('/'));
                assert!(in_a_list, "{path}: `{}` belongs in lib.rs or a mod.rs next to it", line.trim());
            }
        }
    }
}

/// Each dependency is used in the code of the crate that lists it, and each workspace dependency in some crate.
#[test]
fn every_dependency_is_used() {
    let mut used = BTreeSet::new();
    for name in names("crates") {
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        // A crate's tests may be in the root's folder.
        let homes = [format!("crates/{name}/"), "tests/".to_owned()];
        let homes = &homes[..if manifest.contains("../../tests/") { 2 } else { 1 }];
        let files = rust_files().into_iter().filter(|path| homes.iter().any(|home| path.starts_with(home)));
        let code: String = files.map(|path| read(&path)).collect();
        let manifest: toml::Table = manifest.parse().unwrap();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for dependency in manifest.get(table).and_then(|table| table.as_table()).into_iter().flatten() {
                let called = dependency.0.replace('-', "_");
                let named = |word: &str| word == called;
                let is_used = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(named);
                assert!(is_used, "crates/{name} lists {} in [{table}] and doesn't use it", dependency.0);
                used.insert(dependency.0.clone());
            }
        }
    }
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    for dependency in manifest["workspace"]["dependencies"].as_table().unwrap().keys() {
        let ours = dependency.starts_with("vulpes-");
        assert!(ours || used.contains(dependency), "no crate uses {dependency} of Cargo.toml");
    }
}

/// Asks git; in a tree without a repository (an unpacked archive) nothing is tracked. Included files are inside the
/// crate's package, so that it can be built elsewhere.
#[test]
fn included_files_are_packaged() {
    for path in rust_files().iter().filter(|path| path.starts_with("crates/")) {
        let text = read(path);
        let folder = root().join(path).parent().unwrap().to_path_buf();
        let package = root().join(path.split('/').take(2).collect::<Vec<_>>().join("/"));
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((_, rest)) = line.split_once("include_str!(\"").or(line.split_once("include_bytes!(\""))
            else {
                continue;
            };
            // Examples of the workspace's README are compiled in the workspace.
            if at > 0 && lines[at - 1].contains("cfg(doctest)") {
                continue;
            }
            let included = rest.split('"').next().unwrap();
            let mut inside = folder.clone();
            for part in included.split('/') {
                if part == ".." {
                    inside.pop();
                } else {
                    inside.push(part);
                }
            }
            assert!(inside.starts_with(&package), "{path}:{}: {included} is outside the package", at + 1);
            assert!(inside.is_file(), "{path}:{}: {included} does not exist", at + 1);
        }
    }
    for name in names("crates") {
        let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().unwrap();
        for key in ["description", "keywords", "categories"] {
            assert!(manifest["package"].get(key).is_some(), "crates/{name}: no {key}");
        }
    }
}

#[test]
fn no_build_output_is_tracked() {
    if !root().join(".git").exists() {
        eprintln!("this tree is no git repository: nothing is tracked");
        return;
    }
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let tracked = String::from_utf8(output.stdout).expect("UTF-8");
    let built: Vec<&str> =
        tracked.lines().filter(|path| path.split('/').any(|part| part == "target")).collect();
    assert!(built.is_empty(), "build output is tracked (git rm --cached): {built:#?}");
}

/// A test never passes by not running: it is ignored, says why, and a script in `.ci` runs it if its need is met.
#[test]
fn every_ignored_test_says_what_it_needs() {
    let ci = read(".ci/run") + &read(".ci/cuda");
    for path in rust_files() {
        let file = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
        let mut module = file.unwrap_or_default();
        for line in read(&path).lines().map(str::trim) {
            module = line.strip_prefix("mod ").and_then(|line| line.strip_suffix(" {")).unwrap_or(module);
            let Some(reason) = line.strip_prefix("#[ignore") else { continue };
            let reason = reason.trim_start_matches(" = \"");
            if reason.starts_with("needs ") {
                let thing = module.strip_prefix("needs_");
                let thing = thing.unwrap_or_else(|| panic!("{path}: {line} is in no module needs_THING"));
                let known =
                    ci.contains(&format!("\nneed {thing} ")) || ci.contains(&format!("needs_{thing}::"));
                assert!(known, "neither .ci/run nor .ci/cuda knows {thing} of {path}");
            } else {
                let known = reason.starts_with("long: ") || reason.starts_with("started by ");
                assert!(known, "{path}: {line} says neither what the test needs nor how long it takes");
            }
        }
    }
}
