//! `train --keys`: the reference of config keys for a terminal.

use vulpes_runs::config::{Key, keys, section_of};
use vulpes_runs::{Error, Result};

/// The maximum line width.
const WIDTH: usize = 80;
/// The indent of a key's description.
const INDENT: usize = 4;

/// The keys of `section` (all if it is empty), each with its default, its values and its description.
///
/// # Errors
/// Returns [`Error::Usage`] for an unknown section.
pub(super) fn text(section: &str) -> Result<String> {
    let mut text = String::new();
    let mut heading = "";
    let chosen = chosen(section)?;
    for key in &chosen {
        let own = section_of(&key.path);
        if own != heading {
            heading = own;
            text += &format!("{}[{heading}]\n", if text.is_empty() { "" } else { "\n" });
        }
        let name = &key.path[own.len() + 1..];
        text += &match &key.default {
            Some(default) => format!("{name} = {default}\n"),
            None => format!("{name}\n"),
        };
        let words: Vec<String> =
            key.words.iter().map(|(word, about)| format!("\"{word}\": {about}")).collect();
        let wanted = if words.is_empty() { vec![format!("Value: {}.", key.wanted)] } else { words };
        for line in [without_links(&key.about)].iter().chain(&wanted) {
            text += &wrapped(&without_links(line));
        }
    }
    Ok(text.trim_end().to_owned())
}

/// The keys of `section`, all if it is empty.
pub(super) fn chosen(section: &str) -> Result<Vec<Key>> {
    let all = keys();
    let is_in = |key: &Key| {
        let rest = key.path.strip_prefix(section);
        section.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let chosen: Vec<Key> = all.iter().filter(|key| is_in(key)).cloned().collect();
    if chosen.is_empty() {
        let mut sections: Vec<&str> = all.iter().map(|key| section_of(&key.path)).collect();
        sections.dedup();
        return Err(Error::Usage(format!("--keys {section}: the sections are {}", sections.join(", "))));
    }
    Ok(chosen)
}

/// A text with links reduced to their text.
fn without_links(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once('[') {
        let Some((words, link)) = after.split_once("](") else { break };
        let Some((_, end)) = link.split_once(')') else { break };
        plain += &format!("{before}{words}");
        rest = end;
    }
    plain + rest
}

/// A text in indented lines that fit the width.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && INDENT + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{:INDENT$}{line}\n", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines + &format!("{:INDENT$}{line}\n", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_fits_a_terminal_and_names_sections() {
        let all = text("").unwrap();
        assert!(all.lines().all(|line| line.chars().count() <= WIDTH || !line.starts_with(' ')), "{all}");
        assert!(all.contains("[train]\nsteps = 1000\n    Optimizer steps.\n"), "{all}");
        assert!(text("train").unwrap().starts_with("[train]\n"));
        assert!(text("data.tokenizer").unwrap().starts_with("[data.tokenizer]\nkind = \"word\"\n"));
        assert_eq!(text("train.steps").unwrap().lines().count(), 4);
        assert!(text("trian").unwrap_err().to_string().contains("the sections are model, "));
        assert!(!all.contains("]("), "a link's address remains");
    }
}
