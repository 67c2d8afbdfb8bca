//! The small corpora of `data/`, embedded in the library so that their examples run anywhere.

use std::path::Path;

const FILES: [(&str, &str); 10] = [
    ("data/fox.txt", include_str!("../corpora/fox.txt")),
    ("data/fox.val.txt", include_str!("../corpora/fox.val.txt")),
    ("data/paraphrases.tsv", include_str!("../corpora/paraphrases.tsv")),
    ("data/paraphrases.val.tsv", include_str!("../corpora/paraphrases.val.tsv")),
    ("data/sailor.txt", include_str!("../corpora/sailor.txt")),
    ("data/sailor.val.txt", include_str!("../corpora/sailor.val.txt")),
    ("data/topics.jsonl", include_str!("../corpora/topics.jsonl")),
    ("data/topics.val.jsonl", include_str!("../corpora/topics.val.jsonl")),
    ("data/chats.jsonl", include_str!("../corpora/chats.jsonl")),
    ("data/chats.val.jsonl", include_str!("../corpora/chats.val.jsonl")),
];

/// Corpora that configs name but the project doesn't contain: their names and URLs.
const ELSEWHERE: [(&str, &str); 1] = [(
    "tinyshakespeare.txt",
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
)];

/// How to get the missing corpus at `path`, if it is a known one.
pub(crate) fn way_to(path: &str) -> Option<String> {
    let (_, url) = ELSEWHERE.iter().find(|(name, _)| Path::new(path).file_name() == Some(name.as_ref()))?;
    Some(format!("it is not part of the project; get it with curl --create-dirs -o {path} {url}"))
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
