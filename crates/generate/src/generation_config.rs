//! `generation_config.json`: the defaults of a model folder, with transformers' names.

use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use vulpes_data::Tokenizer;

use crate::config::SampleConfig;
use crate::error::Error;

const FILE: &str = "generation_config.json";

/// The file's key for each field of [`SampleConfig`] that has one.
const KEYS: [(&str, &str); 7] = [
    ("n", "max_new_tokens"),
    ("temp", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("repeat_penalty", "repetition_penalty"),
    ("repeat_last_n", "repeat_last_n"),
];

/// The defaults for generation stored with a model's weights.
///
/// Absent keys keep the built-in default; keys of other generation methods (such as beam search) are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GenerationConfig {
    /// `false` means greedy, for any temperature.
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
    /// [`SampleConfig::repeat_last_n`], a key that only Vulpes has. If absent, the penalty applies to the entire
    /// text, as in transformers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<i64>,
    /// [`SampleConfig::n`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<i64>,
    /// The tokens that end a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<OneOrMany>,
}

/// An id or a list of ids: both occur in published folders.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One id.
    One(u32),
    /// Any of several.
    Many(Vec<u32>),
}

impl GenerationConfig {
    /// Reads `generation_config.json` of a model folder; returns an empty config if there is none.
    ///
    /// # Errors
    /// Returns an error if the file can't be read, is not a JSON object, or a key has another type or is out of
    /// range.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        Self::parse(folder, &read_object(folder)?.unwrap_or_default())
    }

    fn parse(folder: &Path, object: &Map<String, Value>) -> Result<Self, Error> {
        let fail = |reason: String| Error::GenerationConfig { path: folder.join(FILE), reason };
        let number = |key: &str| typed(object, key, "a number", Value::as_f64).map_err(fail);
        // 50.0 counts as the integer 50.
        let whole = |value: &Value| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
            value.as_i64().or(number.map(|number| number as i64))
        };
        let count = |key: &str| typed(object, key, "an integer", whole).map_err(fail);
        let config = Self {
            do_sample: typed(object, "do_sample", "true or false", Value::as_bool).map_err(fail)?,
            temperature: number("temperature")?,
            top_k: count("top_k")?,
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            repetition_penalty: number("repetition_penalty")?,
            repeat_last_n: count("repeat_last_n")?,
            max_new_tokens: count("max_new_tokens")?,
            eos_token_id: typed(object, "eos_token_id", "a token's id, or a list of them", ids)
                .map_err(fail)?
                .flatten(),
        };
        let problems = config.over(SampleConfig::default()).problems();
        match problems
            .into_iter()
            .find_map(|problem| Some((KEYS.iter().find(|key| key.0 == problem.key)?, problem)))
        {
            Some(((_, key), problem)) => Err(fail(format!("{key} {}", problem.message))),
            None => Ok(config),
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
            repeat_last_n: (config.repeat_penalty != 1.0).then_some(config.repeat_last_n),
            max_new_tokens: (config.n >= 0).then_some(config.n),
            eos_token_id: eos.map(OneOrMany::One),
        }
    }

    /// The sampler's settings: `config`, overridden by these defaults.
    pub fn over(&self, config: SampleConfig) -> SampleConfig {
        // The key is transformers', whose penalty applies to the entire text.
        let of_all = self.repetition_penalty.filter(|penalty| *penalty != 1.0).map(|_| -1);
        let temp = if self.do_sample == Some(false) { Some(0.0) } else { self.temperature };
        SampleConfig {
            n: self.max_new_tokens.unwrap_or(config.n),
            temp: temp.unwrap_or(config.temp),
            top_k: self.top_k.unwrap_or(config.top_k),
            top_p: self.top_p.unwrap_or(config.top_p),
            min_p: self.min_p.unwrap_or(config.min_p),
            repeat_penalty: self.repetition_penalty.unwrap_or(config.repeat_penalty),
            repeat_last_n: self.repeat_last_n.or(of_all).unwrap_or(config.repeat_last_n),
            ..config
        }
    }

    /// The file's content for a further trained model: that of its `folder`, overridden by those keys of `[sample]` =
    /// `config` that were `given`.
    pub fn laid_over(
        folder: &Map<String, Value>,
        config: &SampleConfig,
        given: &dyn Fn(&str) -> bool,
    ) -> Map<String, Value> {
        let mut object = folder.clone();
        let ours = serde_json::to_value(Self::from_sample(config, None)).unwrap_or_default();
        for (ours_key, key) in KEYS.iter().filter(|(ours_key, _)| given(ours_key)) {
            object.remove(*key);
            object.extend(ours.get(*key).map(|value| ((*key).to_owned(), value.clone())));
            if *ours_key == "temp" {
                object.insert("do_sample".to_owned(), (!config.is_greedy()).into());
            }
        }
        if given("repeat_last_n") {
            object.insert("repeat_last_n".to_owned(), config.repeat_last_n.into());
        }
        object
    }

    /// All tokens that end a text: those of this file, of the folder's `config.json`, and the tokenizer's.
    pub fn end_ids(&self, of_folder: &[u32], tokenizer: &Tokenizer) -> Vec<u32> {
        self.eos_ids().iter().chain(of_folder).copied().chain(tokenizer.eos_id()).collect()
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

/// The JSON object of a folder's `generation_config.json`; `None` if there is none.
///
/// # Errors
/// Returns an error if the file can't be read, or is not a JSON object.
pub fn read_object(folder: &Path) -> Result<Option<Map<String, Value>>, Error> {
    let path = folder.join(FILE);
    let fail = |reason: String| Error::GenerationConfig { path: path.clone(), reason };
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| fail(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(format!("can't be read: {error}"))),
    }
}

/// The value of a key, unless it is absent or null.
fn typed<T>(
    object: &Map<String, Value>,
    key: &str,
    wanted: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, String> {
    match object.get(key).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(format!("{key} is {value}; wanted {wanted}")),
        },
    }
}

/// The end tokens; a negative id means none.
fn ids(value: &Value) -> Option<Option<OneOrMany>> {
    let id = |value: &Value| match value.as_i64()? {
        negative if negative < 0 => Some(None),
        id => u32::try_from(id).ok().map(Some),
    };
    match value {
        Value::Array(values) => {
            let ids: Option<Vec<Option<u32>>> = values.iter().map(id).collect();
            Some(Some(OneOrMany::Many(ids?.into_iter().flatten().collect())))
        }
        one => Some(id(one)?.map(OneOrMany::One)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(file: &str) -> Result<GenerationConfig, Error> {
        GenerationConfig::parse(Path::new("folder"), &serde_json::from_str(file).unwrap())
    }

    #[test]
    fn written_settings_are_read_back() {
        let config =
            SampleConfig { n: 7, temp: 0.0, top_k: 3, repeat_penalty: 1.1, ..SampleConfig::default() };
        let file = serde_json::to_string(&GenerationConfig::from_sample(&config, Some(4))).unwrap();
        let read = parsed(&file).unwrap();
        assert_eq!(read.over(SampleConfig::default()), config);
        assert_eq!(read.eos_ids(), [4]);
    }

    #[test]
    fn files_of_transformers_are_read() {
        let file = r#"{"_from_model_config": true, "bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6,
                       "top_p": 0.9, "transformers_version": "5.0.0"}"#;
        let read = parsed(file).unwrap();
        let config = read.over(SampleConfig::default());
        assert_eq!((config.temp, config.top_p, config.top_k), (0.6, 0.9, 40));
        assert_eq!(read.eos_ids(), [2, 3]);
    }

    #[test]
    fn a_missing_file_means_no_defaults_and_a_broken_one_is_reported() {
        let folder = std::env::temp_dir().join(format!("vulpes-generation-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(GenerationConfig::read(&folder).unwrap(), GenerationConfig::default());
        std::fs::write(folder.join(FILE), "{\"top_k\": \"many\"}").unwrap();
        let error = GenerationConfig::read(&folder).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("top_k is \"many\"; wanted an integer"), "{error}");
        std::fs::write(folder.join(FILE), "{\"top_k\": 3,").unwrap();
        let error = GenerationConfig::read(&folder).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("line 1"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn invalid_values_are_reported_with_their_key() {
        let read = parsed(r#"{"top_k": 50.0, "eos_token_id": -1, "top_p": null}"#).unwrap();
        assert_eq!((read.top_k, read.eos_ids(), read.top_p), (Some(50), &[][..], None));
        assert_eq!(parsed(r#"{"eos_token_id": [3, -1]}"#).unwrap().eos_ids(), [3]);
        for (file, wanted) in [
            (r#"{"top_p": 1.5}"#, "generation_config.json: top_p is 1.5; wanted 0 to 1"),
            (r#"{"top_k": 1.5}"#, "top_k is 1.5; wanted an integer"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty is 0; wanted a number above 0"),
            (r#"{"eos_token_id": "</s>"}"#, "eos_token_id is \"</s>\"; wanted a token's id"),
            (r#"{"do_sample": 1}"#, "do_sample is 1; wanted true or false"),
        ] {
            let error = parsed(file).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn repeat_last_n_limits_the_penalty_and_defaults_to_the_entire_text() {
        let last_n = |file: &str| parsed(file).unwrap().over(SampleConfig::default()).repeat_last_n;
        assert_eq!(last_n(r#"{"repetition_penalty": 1.2}"#), -1);
        assert_eq!(last_n(r#"{"repetition_penalty": 1.2, "repeat_last_n": 8}"#), 8);
        assert_eq!(last_n(r#"{"repetition_penalty": 1.0}"#), 64);
    }

    #[test]
    fn given_keys_override_those_of_the_folder() {
        let folder =
            r#"{"temperature": 0.6, "top_p": 0.9, "do_sample": true, "pad_token_id": 3, "num_beams": 1}"#;
        let folder: Map<String, Value> = serde_json::from_str(folder).unwrap();
        let config = SampleConfig { temp: 0.0, top_k: 5, ..SampleConfig::default() };
        let laid = GenerationConfig::laid_over(&folder, &config, &|key| key == "top_k");
        assert_eq!(laid.get("top_k"), Some(&5.into()));
        assert!(folder.iter().all(|(key, value)| laid.get(key) == Some(value)) && laid.len() == 6);
        let greedy = GenerationConfig::laid_over(&folder, &config, &|key| key == "temp");
        assert_eq!((greedy.get("do_sample"), greedy.get("temperature")), (Some(&false.into()), None));
    }
}
