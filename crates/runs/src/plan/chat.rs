//! The chat template of a run on conversations, and what the run's model folders keep of it.

use std::path::Path;

use serde_json::{Map, Value};
use vulpes_data::{ChatTemplate, DataConfig, DataKind, Dataset};

use super::Plan;

/// The file next to a tokenizer that names its special tokens.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Uses the template of the checkpoint that a run resumes from, if the file that the config names is gone.
pub(super) fn keep_template(data: &mut DataConfig, checkpoint: Option<&Path>) {
    let is_kept = checkpoint.is_some_and(|dir| dir.join(ChatTemplate::FILE).is_file());
    let is_gone = |named: &String| ChatTemplate::built_in(named).is_none() && !Path::new(named).exists();
    if is_kept && data.template.as_ref().is_some_and(is_gone) {
        data.template = None;
    }
}

/// Records the time that the template uses, so that the run's rows are the same on any other day; returns the message
/// about it.
pub(super) fn settle_clock(data: &mut DataConfig, dataset: &Dataset) -> Option<String> {
    let now = dataset.template().filter(|_| data.now.is_none())?.clock()?;
    let told = format!("the chat template uses the current time: data.now = {now:?} in all rows");
    data.now = Some(now);
    Some(told)
}

impl Plan {
    /// What the model folders of a run on conversations hold next to the tokenizer: the template, and the special
    /// tokens that it names, if no other file has them.
    pub(crate) fn chat_files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let Some(template) = self.dataset.template().filter(|_| self.config.data.kind == DataKind::Chat)
        else {
            return Vec::new();
        };
        let mut files = vec![(ChatTemplate::FILE, template.source().as_bytes().to_vec())];
        let given = self.tokenizer_files().find(|(name, _)| *name == TOKENIZER_CONFIG);
        let mut config: Map<String, Value> =
            given.and_then(|(_, bytes)| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        if config.is_empty() {
            config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
            config.extend(template.special_tokens().clone());
        } else if let Some(eos) = &self.config.data.tokenizer.eos {
            config.insert("eos_token".to_owned(), eos.as_str().into());
        } else {
            return files;
        }
        let text = format!("{:#}\n", Value::Object(config));
        files.push((TOKENIZER_CONFIG, text.into_bytes()));
        files
    }
}
