//! Checks the READMEs: commands, links, file maps, configs, generated tables.

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

/// Every README: the root's, and that of each crate.
fn readmes() -> Vec<String> {
    let of_crates = names("crates").into_iter().map(|name| format!("crates/{name}/README.md"));
    std::iter::once("README.md".to_owned()).chain(of_crates).collect()
}

/// Everything that the READMEs show and link to exists: the picture at the top, the lessons, the licenses.
#[test]
fn every_link_leads_somewhere() {
    for readme in readmes() {
        let (text, folder) = (read(&readme), root().join(&readme).parent().unwrap().to_path_buf());
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = folder.join(target.split('#').next().unwrap());
            let size =
                std::fs::metadata(&path).unwrap_or_else(|error| panic!("{readme}: {target}: {error}")).len();
            assert!(size < 200_000, "{readme}: {target} has {size} bytes, a burden for a clone");
        }
    }
}

/// The front page is short enough to be read completely.
#[test]
fn the_front_page_is_short() {
    let size = read("README.md").len();
    assert!(size <= 12 << 10, "README.md has {size} bytes; what only some need stands in a crate's README");
}

/// Every crate's README is the front page of its documentation, and the root's leads to it.
#[test]
fn the_front_page_leads_to_every_crate() {
    let front = read("README.md");
    for name in names("crates") {
        assert!(
            front.contains(&format!("(crates/{name}/README.md)")),
            "README.md doesn't lead to crates/{name}"
        );
        let lib = read(&format!("crates/{name}/src/lib.rs"));
        assert!(
            lib.contains("#![doc = include_str!(\"../README.md\")]"),
            "crates/{name}: lib.rs without its README"
        );
    }
}

/// The blocks of code of a language in a README.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    text.split(&format!("\n{language}\n")).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

/// Every config in a README is valid: each key exists, each value has the right type.
#[test]
fn the_configs_in_readmes_can_be_read() {
    let mut n_blocks = 0;
    for readme in readmes() {
        for block in blocks(&read(&readme), "```toml") {
            let found = vulpes_runs::RunConfig::parse(&readme, block, &[]);
            assert!(found.is_ok(), "{readme}: {found:?}\n{block}");
            n_blocks += 1;
        }
    }
    assert!(n_blocks >= 3, "{n_blocks} configs in READMEs");
}

#[test]
fn every_config_is_described() {
    let readme = read("README.md");
    for name in names("configs").iter().filter(|name| name.ends_with(".toml")) {
        assert!(readme.contains(&format!("configs/{name}")), "README doesn't speak of configs/{name}");
    }
}

/// Checks that a README has `wanted` between the marks of `what`; with `UPDATE_README=1 cargo test --release readme`,
/// writes it.
fn made(readme: &str, (what, from): (&str, &str), wanted: &str) {
    let text = read(readme);
    let (start, end) = (format!("<!-- {what}: made {from} -->\n"), format!("<!-- end of the {what} -->"));
    let (before, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{readme} has no {what}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{readme}: no end of the {what}"));
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(root().join(readme), format!("{before}{start}{wanted}{end}{after}")).unwrap();
    } else {
        assert!(found == wanted, "{readme} is out of date: run `UPDATE_README=1 {TEST} readme`");
    }
}

#[test]
fn the_file_maps_equal_the_code() {
    for name in names("crates") {
        made(&format!("crates/{name}/README.md"), ("file map", "by tests/readme.rs"), &file_map(&name));
    }
}

#[test]
fn the_table_of_models_equals_the_code() {
    let models = vulpes_model::folder::layouts_as_markdown();
    made("crates/model/README.md", ("models", "from the families by tests/readme.rs"), &models);
}

#[test]
fn the_reference_of_keys_equals_the_code() {
    let keys = format!("{}\n", vulpes_runs::config::keys_as_markdown());
    made("crates/runs/README.md", ("keys", "from the code by tests/readme.rs"), &keys);
}

fn file_map(name: &str) -> String {
    let mut map = format!("```text\ncrates/{name}{}\n", arrow(name));
    for entry in names(&format!("crates/{name}/src")) {
        let path = format!("crates/{name}/src/{entry}");
        let mut listed = Vec::new();
        if !root().join(&path).is_dir() {
            listed.push((entry, path));
        } else if root().join(&path).join("mod.rs").exists() {
            listed.push((format!("{entry}/"), format!("{path}/mod.rs")));
        } else {
            // The folder of a crate's programs is not a module: each has its line.
            let programs = names(&path).into_iter();
            listed.extend(programs.map(|file| (format!("{entry}/{file}"), format!("{path}/{file}"))));
        }
        for (label, file) in listed {
            map += &format!("    {label:<22} {}\n", first_sentence(&file));
        }
    }
    map + "```\n"
}

/// The workspace crates that a crate depends on, ` → a, b`.
fn arrow(name: &str) -> String {
    let manifest: toml::Table = read(&format!("crates/{name}/Cargo.toml")).parse().expect("TOML");
    let dependencies = manifest["dependencies"].as_table().expect("a table").keys();
    let ours: Vec<&str> = dependencies.filter_map(|dependency| dependency.strip_prefix("vulpes-")).collect();
    if ours.is_empty() { String::new() } else { format!(" → {}", ours.join(", ")) }
}
