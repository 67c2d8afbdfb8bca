//! Checks that the programs accept every command shown in a README.

use std::path::Path;

use crate::programs::understands;

/// The words of a line as a shell splits them, without its comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut is_word = false;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (None, '"' | '\'') => (quote, is_word) = (Some(letter), true),
            (None, '#') if !is_word => break,
            (None, ' ') if is_word => {
                words.push(std::mem::take(&mut word));
                is_word = false;
            }
            (None, ' ') => {}
            _ => {
                word.push(letter);
                is_word = true;
            }
        }
    }
    words.extend(is_word.then_some(word));
    words
}

/// The commands in a line that call our programs: for each part of a pipe, what follows `cargo run … --`, `mpirun …` or
/// a folder.
fn commands(line: &str) -> Vec<Vec<String>> {
    let all = words(line);
    let parts = all.split(|word| word == "|").map(<[String]>::to_vec);
    let named = parts.filter_map(|part| {
        let end = part.iter().position(|word| word == ">" || word == "2>").unwrap_or(part.len());
        let mut part = part[..end].to_vec();
        if part.first().is_some_and(|word| word == "cargo") {
            let bin = part.iter().position(|word| word == "--bin")?;
            let dashes = part.iter().position(|word| word == "--")?;
            let name = part[bin + 1].clone();
            part = std::iter::once(name).chain(part[dashes + 1..].to_vec()).collect();
        }
        let at = part.iter().position(|word| {
            let name = word.rsplit('/').next().unwrap_or_default();
            ["train", "sample", "explain", "bench", "vulpes"].contains(&name)
        })?;
        (at == 0 || part[0] == "mpirun").then(|| part[at..].to_vec())
    });
    named.collect()
}

#[test]
fn the_commands_in_readmes_are_accepted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let crates = std::fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let folders = crates.chain([root.clone(), root.join("configs/lessons")]);
    let mut n_commands = 0;
    for readme in folders.map(|folder| folder.join("README.md")) {
        let text =
            std::fs::read_to_string(&readme).unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
        for block in text.split("\n```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            for line in block.replace("\\\n", " ").lines() {
                for command in commands(line) {
                    let found = understands(&command);
                    assert!(found.is_ok(), "{}: {line}\n{}", readme.display(), found.unwrap_err());
                    n_commands += 1;
                }
            }
        }
    }
    assert!(n_commands > 20, "{n_commands} commands in READMEs");
}
