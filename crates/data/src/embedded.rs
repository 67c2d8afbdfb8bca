//! The small corpora of `data/`, inside the library, so that what learns from them runs anywhere.

use std::path::Path;

const FILES: [(&str, &str); 4] = [
    ("data/fox.txt", include_str!("../../../data/fox.txt")),
    ("data/fox.val.txt", include_str!("../../../data/fox.val.txt")),
    ("data/topics.jsonl", include_str!("../../../data/topics.jsonl")),
    ("data/topics.val.jsonl", include_str!("../../../data/topics.val.jsonl")),
];

/// The text of an embedded file, by its path (`data/fox.txt`) or its name alone (`fox.txt`).
///
/// # Examples
/// ```
/// assert!(vulpes_data::embedded("fox.txt").is_some_and(|text| text.contains("quick brown fox")));
/// assert!(vulpes_data::embedded("wolf.txt").is_none());
/// ```
pub fn embedded(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let matches = |path: &str| path == name || Path::new(path).file_name() == Some(name.as_ref());
    FILES.iter().find(|(path, _)| matches(path)).map(|(_, text)| *text)
}
