//! The kind of a file by its extension.

use std::path::Path;

use super::Issue;
use super::data::{DataConfig, DataKind};
use super::paths::Paths;

impl DataKind {
    /// The kind of a path's extension; `None` if it has none.
    pub fn by_ending(path: &str) -> Option<Self> {
        let ending = Path::new(path).extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "txt" | "text" | "md" => Some(Self::Text),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "csv" | "tsv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// The kind's name in a config.
    fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Ids => "ids",
            Self::Chat => "chat",
            Self::Synthetic => "synthetic",
        }
    }
}

/// The first path whose extension has a kind, and that kind.
fn known(paths: &Paths) -> Option<(&str, DataKind)> {
    paths.0.iter().find_map(|path| Some((path.as_str(), DataKind::by_ending(path)?)))
}

impl DataConfig {
    /// The kind of the training files by their extensions, if they agree.
    pub fn kind_by_ending(&self) -> Option<DataKind> {
        let mut kinds = self.train.0.iter().map(|path| DataKind::by_ending(path));
        let first = kinds.next()??;
        kinds.all(|kind| kind == Some(first)).then_some(first)
    }

    /// Files whose extensions contradict the kind, or each other.
    pub(super) fn ending_issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        // Rows of ids and conversations are JSON lines, too; and any file may be read as plain text.
        let in_lines = matches!(self.kind, DataKind::Ids | DataKind::Chat);
        let reads = |kind: DataKind| kind == self.kind || (in_lines && kind == DataKind::Jsonl);
        for (key, paths) in [("train", &self.train), ("validation", &self.validation)] {
            if let Some((path, kind)) =
                known(paths).filter(|(_, kind)| self.kind != DataKind::Text && !reads(*kind))
            {
                let (is, wanted) = (self.kind.word(), kind.word());
                let message = format!(
                    "{path} doesn't look like \"{is}\"; set data.kind = \"{wanted}\", or another data.{key}"
                );
                issues.push(Issue::new("data.kind", message));
                return issues;
            }
        }
        if let (Some((train, one)), Some((validation, other))) = (known(&self.train), known(&self.validation))
            && one != other
        {
            let message = format!(
                "{validation} is of another kind than data.train = {train}; both must be of one kind"
            );
            issues.push(Issue::new("data.validation", message));
        }
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_follows_from_matching_extensions() {
        let of = |paths: &[&str]| {
            let train = Paths(paths.iter().map(|path| (*path).to_owned()).collect());
            DataConfig { train, ..DataConfig::default() }.kind_by_ending()
        };
        assert_eq!(of(&["a.jsonl", "b/*.jsonl"]), Some(DataKind::Jsonl));
        assert_eq!(of(&["a.CSV", "b.tsv"]), Some(DataKind::Csv));
        assert_eq!(of(&["a.txt", "b.jsonl"]), None);
        assert_eq!(of(&["folder"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn files_of_another_kind_are_reported() {
        let issues = |kind: DataKind, train: &str, validation: &str| {
            let validation = if validation.is_empty() { Paths::default() } else { validation.into() };
            let config = DataConfig { kind, train: train.into(), validation, ..DataConfig::default() };
            config.ending_issues().into_iter().map(|issue| issue.path).collect::<Vec<_>>()
        };
        assert_eq!(issues(DataKind::Jsonl, "mine.txt", "topics.val.jsonl"), ["data.kind"]);
        assert_eq!(issues(DataKind::Text, "mine.txt", "topics.val.jsonl"), ["data.validation"]);
        assert!(issues(DataKind::Ids, "rows.jsonl", "").is_empty());
        assert!(issues(DataKind::Text, "rows.csv", "").is_empty());
        assert!(issues(DataKind::Csv, "rows.dat", "more.csv").is_empty());
    }
}
