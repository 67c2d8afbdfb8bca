//! The small corpora of `data/`, inside the library, so that what learns from them runs anywhere.

use std::path::Path;

const FILES: [(&str, &str); 6] = [
    ("data/fox.txt", include_str!("../../../data/fox.txt")),
    ("data/fox.val.txt", include_str!("../../../data/fox.val.txt")),
    ("data/paraphrases.tsv", include_str!("../../../data/paraphrases.tsv")),
    ("data/paraphrases.val.tsv", include_str!("../../../data/paraphrases.val.tsv")),
    ("data/topics.jsonl", include_str!("../../../data/topics.jsonl")),
    ("data/topics.val.jsonl", include_str!("../../../data/topics.val.jsonl")),
];

/// The corpora that configs name and that are not part of the project: their names, and where each comes from.
const ELSEWHERE: [(&str, &str); 1] = [(
    "tinyshakespeare.txt",
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
)];

/// How to get the corpus at `path` that isn't there, where it is a known one.
pub(crate) fn way_to(path: &str) -> Option<String> {
    let (_, url) = ELSEWHERE.iter().find(|(name, _)| Path::new(path).file_name() == Some(name.as_ref()))?;
    Some(format!("it is no part of the project: curl --create-dirs -o {path} {url}"))
}

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
