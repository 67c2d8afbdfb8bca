//! README's claims that a machine can check: the commands, the file map, the configs.

use crate::repository::{first_sentence, names, read, root};

const TRAIN: &str = "cargo run --release --bin train -- --config fox.toml";
const TEST: &str = "cargo test --release --workspace";

#[test]
fn ci_runs_the_two_commands() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    for command in [TRAIN, TEST] {
        assert!(
            readme.lines().any(|line| line.trim() == command),
            "README doesn't give `{command}` on its own line"
        );
        assert!(
            ci.lines().any(|line| line.starts_with(&format!("run {command}"))),
            ".ci/run doesn't run `{command}`"
        );
    }
}

/// What README shows and links to is there: the picture at the top, the lessons, the licences.
#[test]
fn every_link_leads_somewhere() {
    let readme = read("README.md");
    let targets = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local: Vec<&str> =
        targets.filter(|target| !target.contains("://") && !target.starts_with('#')).collect();
    assert!(local.len() > 3, "{local:?}");
    for path in local {
        let size =
            std::fs::metadata(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}")).len();
        assert!(size < 200_000, "{path} has {size} bytes, a burden for a clone");
    }
}

#[test]
fn every_config_is_described() {
    let readme = read("README.md");
    for name in names("configs").iter().filter(|name| name.ends_with(".toml")) {
        assert!(readme.contains(&format!("configs/{name}")), "README doesn't speak of configs/{name}");
    }
}

/// What README says of the files and of the models is made from them; `UPDATE_README=1 cargo test --release readme` writes
/// it anew.
#[test]
fn the_file_map_and_the_table_of_models_equal_the_code() {
    let readme = read("README.md");
    let mut written = readme.clone();
    for (what, start, wanted) in [
        ("file map", "<!-- file map: made by tests/readme.rs -->\n", file_map()),
        (
            "models",
            "<!-- models: made from the families by tests/readme.rs -->\n",
            vulpes_model::folder::layouts_as_markdown(),
        ),
    ] {
        let end = format!("<!-- end of the {what} -->");
        let (before, rest) = written.split_once(start).unwrap_or_else(|| panic!("README has no {what}"));
        let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README's {what} have no end"));
        written = format!("{before}{start}{wanted}{end}{after}");
    }
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(root().join("README.md"), written).unwrap();
    } else {
        assert!(written == readme, "README is out of date: run `UPDATE_README=1 {TEST} readme`");
    }
}

/// The reference of config keys is made from the code; written anew as the file map is.
#[test]
fn the_reference_of_keys_equals_the_code() {
    let path = "crates/runs/README.md";
    let (start, end) = ("<!-- keys: made from the code by tests/readme.rs -->\n", "<!-- end of the keys -->");
    let text = read(path);
    let (before, rest) = text.split_once(start).expect("no reference");
    let (found, after) = rest.split_once(end).expect("the reference has no end");
    let wanted = format!("{}\n", vulpes_runs::config::keys_as_markdown());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(root().join(path), format!("{before}{start}{wanted}{end}{after}")).unwrap();
    } else {
        assert!(found == wanted, "{path} is out of date: run `UPDATE_README=1 {TEST} readme`");
    }
}

fn file_map() -> String {
    let mut map = String::from("```text\n");
    for name in names("crates") {
        map += &format!("crates/{name}{}\n", arrow(&name));
        for entry in names(&format!("crates/{name}/src")) {
            let path = format!("crates/{name}/src/{entry}");
            let mut listed = Vec::new();
            if !root().join(&path).is_dir() {
                listed.push((entry, path));
            } else if root().join(&path).join("mod.rs").exists() {
                listed.push((format!("{entry}/"), format!("{path}/mod.rs")));
            } else {
                // The folder of a crate's programs is no module: each has its line.
                let programs = names(&path).into_iter();
                listed.extend(programs.map(|file| (format!("{entry}/{file}"), format!("{path}/{file}"))));
            }
            for (label, file) in listed {
                map += &format!("    {label:<22} {}\n", first_sentence(&file));
            }
        }
    }
    map + "```\n"
}

/// Those of our crates that a crate depends on, ` → a, b`.
fn arrow(name: &str) -> String {
    let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table").keys();
    let ours: Vec<&str> = dependencies.filter_map(|dependency| dependency.strip_prefix("vulpes-")).collect();
    if ours.is_empty() { String::new() } else { format!(" → {}", ours.join(", ")) }
}
