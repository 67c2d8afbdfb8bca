//! The section `[data]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Issue;
use super::document::DocumentConfig;
use super::objective::{ObjectiveConfig, ObjectiveKind};
use super::paths::Paths;
use super::tokenizer::{TokenizerConfig, TokenizerKind};

/// The contents of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataKind {
    /// Plain text in UTF-8.
    #[default]
    Text,
    /// One JSON object per line, with a text column.
    Jsonl,
    /// Comma-separated values with a header, with a text column; tab-separated if the file is named `.tsv`.
    Csv,
    /// Parquet, with a text column; for programs built with the feature `parquet`.
    Parquet,
    /// One JSON object per line with token ids: `input_ids`, and optionally `attention_mask`, `token_type_ids`,
    /// `position_ids`, `labels`.
    Ids,
    /// One conversation per line, as a JSON object with `messages`, or with `prompt` and `completion`: the
    /// assistant's turns are learned.
    Chat,
    /// Synthetic token ids without any file, for timing.
    Synthetic,
}

/// What one row of a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// All documents are packed end to end and cut into windows of equal length. Conversations are packed uncut, as
    /// many as fit into a window, and don't attend to each other.
    Windows,
    /// One document per row, padded to the longest of the batch.
    Documents,
}

/// The section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// The contents of the files.
    pub kind: DataKind,
    /// The training files: a path or a list of paths, globs and folders.
    #[serde(skip_serializing_if = "Paths::is_empty")]
    pub train: Paths,
    /// The validation files, in the same form.
    #[serde(skip_serializing_if = "Paths::is_empty")]
    pub validation: Paths,
    /// The share of the training documents used for validation, chosen by their content; a single document is split
    /// by position, and its end is used. 0 = none; unset, a config file without `validation` uses a tenth if the
    /// corpus is large enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_fraction: Option<f64>,
    /// The number of rows of the validation set to evaluate, from its start; unset: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_rows: Option<u64>,
    /// What one document of plain text is.
    #[serde(skip_serializing_if = "is_file")]
    pub document: DocumentConfig,
    /// The column of the text, for `jsonl`, `csv` and `parquet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// The column of the second text of a pair, for `jsonl`, `csv` and `parquet`; unset: no pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair_column: Option<String>,
    /// The column of the label, for `objective.kind = "classify"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// The chat template, for `chat`: the name of a template in the model's folder or of a built-in one (`plain`), or
    /// a file; unset: the folder's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The time that the template's clock shows, for `chat`, such as `2026-01-31 12:00:00`; unset: the start of the
    /// run, if the template reads the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// What one row of a batch is; unset: `windows` for running text, `documents` for `ids`, `chat`, classification
    /// and the contrastive objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowKind>,
    /// Whether rows are shuffled anew each epoch; `train.shuffle` is the same switch, and either turns it off.
    pub shuffle: bool,
    /// How many rows of similar length are grouped, for `rows = "documents"`: the batch size leaves the least
    /// padding; unset: rows are not grouped by length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u64>,
    /// Whether attention stays within a document and positions restart with each, for `rows = "windows"`.
    pub separate_documents: bool,
    /// The folder for tokenized corpora; unset: `vulpes` in the user's cache folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// The tokenizer.
    pub tokenizer: TokenizerConfig,
}

fn is_file(document: &DocumentConfig) -> bool {
    *document == DocumentConfig::File
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            kind: DataKind::Text,
            train: Paths::default(),
            validation: Paths::default(),
            validation_fraction: None,
            validation_rows: None,
            document: DocumentConfig::File,
            text_column: None,
            pair_column: None,
            label_column: None,
            template: None,
            now: None,
            rows: None,
            shuffle: true,
            bucket: None,
            separate_documents: false,
            cache: None,
            tokenizer: TokenizerConfig::default(),
        }
    }
}

impl DataConfig {
    /// Plain text from `path`: a file, a glob or a folder. The last tenth is used for validation.
    ///
    /// # Examples
    /// ```
    /// use vulpes_data::{DataConfig, TokenizerKind};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("corpus.txt");
    /// std::fs::write(&path, "the quick brown fox jumps over the lazy dog. ".repeat(20))?;
    /// let data = DataConfig::text(path.to_string_lossy()).tokenized_by(TokenizerKind::Char);
    /// let dataset = data.open(16, 1)?;
    /// assert_eq!(dataset.vocab_size(), 28 + 4); // letters and punctuation, and four special tokens
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn text(path: impl Into<String>) -> Self {
        Self { train: Paths(vec![path.into()]), validation_fraction: Some(0.1), ..Self::default() }
    }

    /// The same, with a tokenizer of this kind.
    #[must_use]
    pub fn tokenized_by(mut self, kind: TokenizerKind) -> Self {
        self.tokenizer.kind = kind;
        self
    }

    /// The same, with this share of the text used for validation; 0 = none.
    #[must_use]
    pub fn validation_fraction(self, share: f64) -> Self {
        Self { validation_fraction: Some(share), ..self }
    }

    /// What one row is, with the default resolved.
    pub fn row_kind(&self, objective: &ObjectiveConfig) -> RowKind {
        let whole = matches!(objective.kind(), ObjectiveKind::Classify | ObjectiveKind::Contrastive);
        let documents = matches!(self.kind, DataKind::Ids | DataKind::Chat) || whole;
        self.rows.unwrap_or(if documents { RowKind::Documents } else { RowKind::Windows })
    }

    /// The name of the text column.
    pub fn text_column(&self) -> &str {
        self.text_column.as_deref().unwrap_or("text")
    }

    /// The name of the label column.
    pub fn label_column(&self) -> &str {
        self.label_column.as_deref().unwrap_or("label")
    }

    /// All issues of this section, alone and together with the objective, including those of the tokenizer.
    pub fn issues(&self, objective: &ObjectiveConfig) -> Vec<Issue> {
        let mut issues = if matches!(self.kind, DataKind::Ids | DataKind::Synthetic) {
            self.unused_tokenizer()
        } else {
            self.tokenizer.issues()
        };
        issues.extend(self.ending_issues());
        let mut fault = |key: &str, message: String| issues.push(Issue::new(&format!("data.{key}"), message));
        let synthetic = self.kind == DataKind::Synthetic;
        let table = matches!(self.kind, DataKind::Jsonl | DataKind::Csv | DataKind::Parquet);
        let classify = objective.kind() == ObjectiveKind::Classify;
        let rows = self.row_kind(objective);

        if self.kind == DataKind::Parquet && !cfg!(feature = "parquet") {
            fault("kind", "\"parquet\" is not compiled in; build with --features parquet".into());
        }
        if synthetic && !(self.train.is_empty() && self.validation.is_empty()) {
            fault("train", "kind = \"synthetic\" reads no files; remove train and validation".into());
        }
        if synthetic && objective.kind() != ObjectiveKind::NextToken {
            fault("kind", "\"synthetic\" needs objective.kind = \"next_token\"".into());
        }
        if !synthetic && self.train.is_empty() {
            fault(
                "train",
                "no training files are given: a path, or a list of paths, globs and folders".into(),
            );
        }
        for (key, paths) in [("train", &self.train), ("validation", &self.validation)] {
            if paths.0.iter().any(String::is_empty) {
                fault(key, "a path is empty".into());
            }
        }
        if let Some(fraction) = self.validation_fraction {
            if !(0.0..1.0).contains(&fraction) {
                fault(
                    "validation_fraction",
                    format!("{fraction} is out of range: 0 (no validation) or more, and less than 1"),
                );
            }
            if fraction > 0.0 && !self.validation.is_empty() {
                fault("validation_fraction", "contradicts data.validation; set one of the two".into());
            }
            if fraction > 0.0 && matches!(self.kind, DataKind::Ids | DataKind::Synthetic) {
                fault(
                    "validation_fraction",
                    "applies to text and tables only; set data.validation here".into(),
                );
            }
        }
        if self.validation_rows == Some(0) {
            fault("validation_rows", "0 rows evaluate nothing; set 1 or more, or remove it for all".into());
        }
        if self.kind != DataKind::Text && self.document != DocumentConfig::File {
            fault(
                "document",
                "applies to kind = \"text\" only; each row of the other kinds is a document".into(),
            );
        }
        if matches!(&self.document, DocumentConfig::Marker(marker) if marker.is_empty()) {
            fault("document", "the marker is empty".into());
        }
        for (key, given) in [("text_column", &self.text_column), ("pair_column", &self.pair_column)] {
            if given.is_some() && !table {
                fault(key, "applies to kind = \"jsonl\", \"csv\" or \"parquet\" only".into());
            }
        }
        if self.label_column.is_some() && !(table && classify) {
            fault(
                "label_column",
                "applies to kind = \"jsonl\", \"csv\" or \"parquet\" with objective.kind = \"classify\" only"
                    .into(),
            );
        }
        if classify && self.kind == DataKind::Text {
            fault(
                "kind",
                "classification needs labels: use \"jsonl\", \"csv\", \"parquet\" or \"ids\"".into(),
            );
        }
        if self.kind == DataKind::Chat {
            if objective.kind() != ObjectiveKind::NextToken {
                fault("kind", "\"chat\" needs objective.kind = \"next_token\"".into());
            }
            if self.cache.is_some() {
                fault("cache", "has no effect: conversations are tokenized at each start; remove it".into());
            }
        }
        for (key, given) in [("template", &self.template), ("now", &self.now)] {
            if given.is_some() && self.kind != DataKind::Chat {
                fault(key, "applies to kind = \"chat\" only".into());
            }
        }
        let contrastive = objective.kind() == ObjectiveKind::Contrastive;
        if contrastive && matches!(self.kind, DataKind::Text | DataKind::Ids) {
            fault(
                "kind",
                "objective.kind = \"contrastive\" learns from pairs of texts: use \"jsonl\", \"csv\" or \"parquet\", \
                 and set data.text_column and data.pair_column"
                    .into(),
            );
        }
        if contrastive && table && self.pair_column.is_none() {
            fault(
                "pair_column",
                "objective.kind = \"contrastive\" learns from pairs of texts, but only one column is set: \
                 set that of the second text here"
                    .into(),
            );
        }
        if rows == RowKind::Windows && contrastive {
            fault("rows", "\"windows\" cuts running text; pairs of texts take \"documents\"".into());
        }
        if rows == RowKind::Windows && (self.kind == DataKind::Ids || classify) {
            fault(
                "rows",
                "\"windows\" cuts running text; \"ids\" and classification take \"documents\"".into(),
            );
        }
        if rows == RowKind::Windows && self.pair_column.is_some() && !contrastive {
            fault("pair_column", "pairs need rows = \"documents\"".into());
        }
        if rows == RowKind::Documents && synthetic {
            fault("rows", "\"synthetic\" makes windows only".into());
        }
        if self.bucket == Some(0) || self.bucket > Some(1 << 20) {
            fault("bucket", "out of range; set 1 to 1048576 rows, or remove it".into());
        }
        if self.bucket.is_some() && rows == RowKind::Windows {
            fault("bucket", "windows have one length; it applies to rows = \"documents\" only".into());
        }
        if self.separate_documents && (rows == RowKind::Documents || synthetic) {
            fault("separate_documents", "applies to rows = \"windows\" of a text only".into());
        }
        issues
    }

    /// Keys of `[data.tokenizer]` that a kind without text would ignore; `file` may name the tokenizer of the ids.
    fn unused_tokenizer(&self) -> Vec<Issue> {
        if self.tokenizer == TokenizerConfig::default() {
            return Vec::new();
        }
        match (self.kind, self.tokenizer.kind) {
            (DataKind::Ids, TokenizerKind::File) => self.tokenizer.issues(),
            _ => vec![Issue::new(
                "data.tokenizer.kind",
                "the files hold ids, not text: only \"ids\" with kind = \"file\" takes a tokenizer",
            )],
        }
    }
}
