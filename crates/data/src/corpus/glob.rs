//! Globs: `*` and `?` within a name, `[abc]` and `[a-z]`, `**` for any folders.

use std::path::{Component, Path, PathBuf};

use super::files::walk;
use crate::Result;

/// Whether a path has signs of a glob.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The files that match, in no order.
pub(super) fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    // The folder to start from is what stands before the first sign.
    let mut base = PathBuf::new();
    for component in Path::new(pattern).components() {
        match component {
            Component::Normal(name) if is_pattern(&name.to_string_lossy()) => break,
            other => base.push(other),
        }
    }
    let start = if base.as_os_str().is_empty() { Path::new(".") } else { base.as_path() };
    if !start.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    walk(start, &mut found)?;
    let wanted = parts(Path::new(pattern));
    found.retain(|path| matches_parts(&wanted, &parts(path)));
    Ok(found.into_iter().map(|path| path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path)).collect())
}

fn parts(path: &Path) -> Vec<Vec<char>> {
    path.components()
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| component.as_os_str().to_string_lossy().chars().collect())
        .collect()
}

fn matches_parts(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any == &['*', '*'] => {
            matches_parts(rest, path)
                || path.split_first().is_some_and(|(_, deeper)| matches_parts(pattern, deeper))
        }
        (Some((name, rest)), Some((first, deeper))) => {
            matches_name(name, first) && matches_parts(rest, deeper)
        }
        _ => false,
    }
}

fn matches_name(pattern: &[char], name: &[char]) -> bool {
    let Some((&sign, rest)) = pattern.split_first() else { return name.is_empty() };
    if sign == '*' {
        return (0..=name.len()).any(|skip| matches_name(rest, &name[skip..]));
    }
    let Some((&letter, deeper)) = name.split_first() else { return false };
    match sign {
        '?' => matches_name(rest, deeper),
        '[' => match rest.iter().position(|&c| c == ']').filter(|&end| end > 0) {
            Some(end) => in_class(&rest[..end], letter) && matches_name(&rest[end + 1..], deeper),
            None => letter == '[' && matches_name(rest, deeper),
        },
        _ => sign == letter && matches_name(rest, deeper),
    }
}

fn in_class(class: &[char], letter: char) -> bool {
    let (class, negated) = match class.split_first() {
        Some(('!', rest)) => (rest, true),
        _ => (class, false),
    };
    let mut at = 0;
    let mut found = false;
    while at < class.len() {
        match (class.get(at + 1), class.get(at + 2)) {
            (Some('-'), Some(&to)) => {
                found |= (class[at]..=to).contains(&letter);
                at += 3;
            }
            _ => {
                found |= class[at] == letter;
                at += 1;
            }
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        let matches =
            |pattern: &str, path: &str| matches_parts(&parts(Path::new(pattern)), &parts(Path::new(path)));
        assert!(matches("a/*.txt", "a/fox.txt") && !matches("a/*.txt", "a/b/fox.txt"));
        assert!(matches("a/**/*.txt", "a/b/c/fox.txt") && matches("a/**/*.txt", "a/fox.txt"));
        assert!(matches("fo?.t[x-z]t", "fox.txt") && !matches("fo?.t[!x]t", "fox.txt"));
        assert!(matches("**", "a/b") && !matches("a", "b") && matches("a[b", "a[b"));
        assert!(!matches("*.txt", "fox.txt.gz"));
    }
}
