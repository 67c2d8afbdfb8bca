//! `generation_config.json`: the defaults that a model folder brings, under transformers' names.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::SampleConfig;
use crate::error::Error;

const FILE: &str = "generation_config.json";

/// The defaults for generation that lie beside a model's weights.
///
/// Absent keys leave the built-in default; keys that concern other ways of generating (beams and so on) are left alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationConfig {
    /// `false` means greedy, whatever the temperature says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_sample: Option<bool>,
    /// [`SampleConfig::temp`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// [`SampleConfig::top_k`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// [`SampleConfig::top_p`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// [`SampleConfig::min_p`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// [`SampleConfig::repeat_penalty`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// [`SampleConfig::n`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<i64>,
    /// The tokens that end a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<OneOrMany>,
}

/// An id, or a list of them: both are written in the wild.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One id.
    One(u32),
    /// Any of several.
    Many(Vec<u32>),
}

impl GenerationConfig {
    /// Reads `generation_config.json` of a model folder; the empty config where the folder has none.
    ///
    /// # Errors
    /// Where the file can't be read, is not JSON, or a key has another type.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let fail = |reason: String| Error::GenerationConfig { path: path.clone(), reason };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(fail(format!("can't be read: {error}"))),
        }
    }

    /// The file's content for a model that was trained with `[sample]` = `config` and ends its texts with `eos`.
    pub fn from_sample(config: &SampleConfig, eos: Option<u32>) -> Self {
        Self {
            do_sample: Some(!config.is_greedy()),
            temperature: (!config.is_greedy()).then_some(config.temp),
            top_k: Some(config.top_k),
            top_p: Some(config.top_p),
            min_p: Some(config.min_p),
            repetition_penalty: Some(config.repeat_penalty),
            max_new_tokens: (config.n >= 0).then_some(config.n),
            eos_token_id: eos.map(OneOrMany::One),
        }
    }

    /// The sampler's settings: these defaults laid over `config`.
    pub fn over(&self, config: SampleConfig) -> SampleConfig {
        let temp = if self.do_sample == Some(false) { Some(0.0) } else { self.temperature };
        SampleConfig {
            n: self.max_new_tokens.unwrap_or(config.n),
            temp: temp.unwrap_or(config.temp),
            top_k: self.top_k.unwrap_or(config.top_k),
            top_p: self.top_p.unwrap_or(config.top_p),
            min_p: self.min_p.unwrap_or(config.min_p),
            repeat_penalty: self.repetition_penalty.unwrap_or(config.repeat_penalty),
            ..config
        }
    }

    /// The ids of the tokens that end a text.
    pub fn eos_ids(&self) -> &[u32] {
        match &self.eos_token_id {
            None => &[],
            Some(OneOrMany::One(id)) => std::slice::from_ref(id),
            Some(OneOrMany::Many(ids)) => ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_from_sample_writes_reads_back() {
        let config =
            SampleConfig { n: 7, temp: 0.0, top_k: 3, repeat_penalty: 1.1, ..SampleConfig::default() };
        let file = serde_json::to_string(&GenerationConfig::from_sample(&config, Some(4))).unwrap();
        let read: GenerationConfig = serde_json::from_str(&file).unwrap();
        assert_eq!(read.over(SampleConfig::default()), config);
        assert_eq!(read.eos_ids(), [4]);
    }

    #[test]
    fn transformers_own_files_are_read() {
        let file = r#"{"_from_model_config": true, "bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6,
                       "top_p": 0.9, "transformers_version": "5.0.0"}"#;
        let read: GenerationConfig = serde_json::from_str(file).unwrap();
        let config = read.over(SampleConfig::default());
        assert_eq!((config.temp, config.top_p, config.top_k), (0.6, 0.9, 40));
        assert_eq!(read.eos_ids(), [2, 3]);
    }

    #[test]
    fn a_folder_without_the_file_has_no_defaults_and_a_broken_one_is_named() {
        let folder = std::env::temp_dir().join(format!("vulpes-generation-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(GenerationConfig::read(&folder).unwrap(), GenerationConfig::default());
        std::fs::write(folder.join(FILE), "{\"top_k\": \"many\"}").unwrap();
        let error = GenerationConfig::read(&folder).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("line 1"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
