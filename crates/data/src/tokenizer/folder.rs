//! The tokenizer of a model folder: `tokenizer.json` and the files next to it.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::tokenizer::{AddedToken, Tokenizer as Inner};

use super::{Tokenizer, older};
use crate::error::{Error, Result};

/// The keys of `tokenizer_config.json` under which transformers looks for tokens, in its order.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const MORE_TOKENS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// Files with a tokenizer in older forms that are not read: SentencePiece's, and pieces without their merges.
const OLDER: [&str; 4] = ["vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];

impl Tokenizer {
    /// The tokenizer of a model folder: its `tokenizer.json`, or an older `vocab.txt`, or `vocab.json` and
    /// `merges.txt`; with the tokens that `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json`
    /// add, and the special tokens that these name, else `config.json` or `generation_config.json` give by id.
    ///
    /// # Errors
    /// As for [`Tokenizer::from_file`].
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join("tokenizer.json");
        if !Self::is_in(folder) {
            let hint = match Self::older_in(folder) {
                Some(name) => format!(
                    "the folder's tokenizer is in {name}; convert it with AutoTokenizer.from_pretrained(DIR)\
                     .save_pretrained(DIR) of transformers"
                ),
                None => "the folder holds no tokenizer.json".into(),
            };
            return Err(Error::Missing { path, hint });
        }
        let read = |name: &str| -> Result<Option<Value>> {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .map(Some)
                    .map_err(|error| Error::tokenizer(path.display(), error)),
                Err(_) => Ok(None),
            }
        };
        let all = |names: &[&str]| -> Result<Vec<Value>> {
            Ok(names
                .iter()
                .map(|name| read(name))
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect())
        };
        let by_name = all(&["tokenizer_config.json", "special_tokens_map.json"])?;
        let by_id = all(&["config.json", "generation_config.json"])?;
        let n_rows = by_id.first().and_then(|config| config["vocab_size"].as_u64());
        let map = read("special_tokens_map.json")?;
        let config = read("tokenizer_config.json")?.filter(Value::is_object);
        let mut config = config.unwrap_or_else(|| Value::Object(Map::new()));
        lay_under(&mut config, map, read("added_tokens.json")?);
        let mut tokenizer = if path.is_file() {
            Self::from_file(&path)?
        } else {
            let model_type = by_id.first().and_then(|config| config["model_type"].as_str());
            let bytes = older::read(folder, &mut config, model_type)?;
            Self::from_bytes(&bytes, &folder.display().to_string())?
        };
        tokenizer = tokenizer.with_tokens_of(&config, n_rows, &path.display().to_string())?;
        let named = if path.is_file() { by_name } else { vec![config] };
        tokenizer.special.state(&tokenizer.inner, &named, &by_id);
        Ok(tokenizer)
    }

    /// The file of a model folder that holds its tokenizer.
    pub const FILE: &'static str = "tokenizer.json";

    /// The files next to it that configure the tokenizer or that it was made of; they remain valid as long as it
    /// does.
    pub const FILES_BESIDE: &'static [&'static str] = &[
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "tokenizer.model",
        "chat_template.jinja",
    ];

    /// Whether a model folder has a tokenizer.
    pub fn is_in(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        folder.join(Self::FILE).is_file() || older::is_in(folder)
    }

    /// The file of a model folder's tokenizer in a form that isn't read, if it has no other.
    pub fn older_in(folder: impl AsRef<Path>) -> Option<&'static str> {
        let folder = folder.as_ref();
        let older = OLDER.iter().find(|name| folder.join(name).is_file());
        older.filter(|_| !Self::is_in(folder)).copied()
    }

    /// The tokenizer with the tokens that only a `tokenizer_config.json` names, added as transformers does: those of
    /// `added_tokens_decoder` by their ids, then special tokens, each with the next id. A token beyond the `n_rows`
    /// rows of the model's embedding is left out, with a warning.
    fn with_tokens_of(self, config: &Value, n_rows: Option<u64>, what: &str) -> Result<Self> {
        let mut inner = Inner::clone(&self.inner);
        let (mut left_out, mut n_added) = (Vec::new(), 0);
        for token in tokens_of(config) {
            if inner.token_to_id(&token.content).is_some() && !is_new(&inner, &token) {
                continue;
            }
            let next = inner.get_vocab_size(true) as u64;
            if inner.token_to_id(&token.content).is_none() && n_rows.is_some_and(|n_rows| next >= n_rows) {
                left_out.push(token.content.clone());
                continue;
            }
            inner.add_tokens([token]).map_err(|error| Error::tokenizer(what, error))?;
            n_added += 1;
        }
        let mut tokenizer = if n_added > 0 { Self::new(inner, what)? } else { self };
        if !left_out.is_empty() {
            tokenizer.warnings.push(format!(
                "tokenizer_config.json names {}, for which the model's vocabulary has no row: left out",
                left_out.join(", ")
            ));
        }
        Ok(tokenizer)
    }
}

/// Adds to a `tokenizer_config.json` the special tokens that only `special_tokens_map.json` names, and the tokens of
/// `added_tokens.json` if it has none itself.
fn lay_under(config: &mut Value, map: Option<Value>, added: Option<Value>) {
    for (key, token) in map.iter().filter_map(Value::as_object).flatten() {
        if config[key].is_null() {
            config[key] = token.clone();
        }
    }
    if let (Some(Value::Object(added)), true) = (added, config["added_tokens_decoder"].is_null()) {
        let special: Vec<String> = tokens_of(config).into_iter().map(|token| token.content).collect();
        let token = |(content, id): (String, Value)| {
            let is_special = special.contains(&content);
            (id.to_string(), json!({"content": content, "special": is_special}))
        };
        config["added_tokens_decoder"] = added.into_iter().map(token).collect();
    }
}

/// Whether a token of the vocabulary isn't an added token yet; a text is split at added tokens only.
fn is_new(inner: &Inner, token: &AddedToken) -> bool {
    !inner.get_added_tokens_decoder().values().any(|added| added.content == token.content)
}

/// All tokens that a `tokenizer_config.json` names, in transformers' order.
fn tokens_of(config: &Value) -> Vec<AddedToken> {
    let flag = |value: &Value, key: &str, default: bool| value[key].as_bool().unwrap_or(default);
    let token = |value: &Value, special: bool| -> Option<AddedToken> {
        let content = value.as_str().or_else(|| value["content"].as_str())?;
        let special = flag(value, "special", special);
        let token = AddedToken::from(content, special)
            .lstrip(flag(value, "lstrip", false))
            .rstrip(flag(value, "rstrip", false))
            .single_word(flag(value, "single_word", false))
            .normalized(flag(value, "normalized", !special));
        (!content.is_empty()).then_some(token)
    };
    let mut by_id: Vec<(u64, &Value)> = config["added_tokens_decoder"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(id, value)| Some((id.parse().ok()?, value)))
        .collect();
    by_id.sort_unstable_by_key(|(id, _)| *id);
    let mut tokens: Vec<AddedToken> =
        by_id.into_iter().filter_map(|(_, value)| token(value, false)).collect();
    let named = TOKENS.iter().map(|key| &config[key]);
    let more = MORE_TOKENS.iter().flat_map(|key| match &config[key] {
        Value::Array(values) => values.iter().collect::<Vec<_>>(),
        Value::Object(values) => values.values().collect(),
        _ => Vec::new(),
    });
    for value in named.chain(more) {
        if let Some(token) = token(value, true).filter(|new| !tokens.iter().any(|t| t.content == new.content))
        {
            tokens.push(token);
        }
    }
    tokens
}
