//! A folder's `config.json` in both directions: the layout's family, the model, special tokens and labels.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::Error;
use super::sentence::Sentence;
use crate::config::{Head, ModelConfig};
use crate::families::{self, Fields, Folder, Reading};

/// The contents of a folder in addition to the model: special tokens, labels, sentence-transformers' settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// The token at the start of a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_id: Vec<u32>,
    /// The padding token.
    pub pad_token_id: Option<u32>,
    /// A classifier's labels by number; empty = `LABEL_0`, `LABEL_1`, …
    pub labels: Vec<String>,
    /// The settings of sentence-transformers for a model of text embeddings, in separate files.
    pub sentence: Option<Sentence>,
}

/// The contents of a `config.json`.
pub(super) struct Described {
    pub(super) layout: &'static Folder,
    pub(super) config: ModelConfig,
    pub(super) extra: Extra,
    pub(super) warnings: Vec<String>,
}

/// The layouts that are read.
fn layouts() -> impl Iterator<Item = &'static Folder> {
    let of_families = families::FAMILIES.iter().filter_map(|family| family.folder.as_ref());
    of_families.chain(families::READ_ONLY.iter().copied()).chain([families::OWN])
}

/// The layout in which `config` is written: its family's if that can express it, else Vulpes' own.
///
/// A layout fits if reading it back returns the same config.
pub(super) fn of(config: &ModelConfig) -> &'static Folder {
    // The initialization says nothing about the trained weights.
    let said = ModelConfig { embedding_init: 1.0, head_init: 1.0, branch_init: None, ..config.clone() };
    let fits = |layout: &&Folder| {
        let table = layout.names.table(config);
        let has = |_: &Folder, name: &str| table.iter().any(|stored| stored.name == name);
        let object = write_as(layout, config, &Extra::default(), "float32");
        let back = object.and_then(|object| read(Path::new("config.json"), &object, &has).ok());
        back.is_some_and(|back| back.config == said)
    };
    families::of(config.family).folder.as_ref().filter(fits).unwrap_or(families::OWN)
}

/// The prefix of the base model's names: empty in the folder of a bare model.
pub(super) fn written_prefix(layout: &Folder, config: &ModelConfig) -> &'static str {
    if matches!(config.head, Head::Hidden { .. }) { "" } else { layout.names.prefix }
}

/// Reads a `config.json`. `has` returns whether a tensor of that name (`*` for its prefix) is in the folder.
///
/// # Errors
/// Returns everything that is not implemented or contradicts itself, at once.
pub(super) fn read(
    path: &Path,
    object: &Map<String, Value>,
    has: &dyn Fn(&Folder, &str) -> bool,
) -> Result<Described, Error> {
    let mut fields = Fields::new(object, "");
    refuse_quantised(&mut fields);
    let mut extra = Extra::default();
    read_tokens(&mut fields, &mut extra);
    let known = |last: &str| {
        let mut types: Vec<&str> = layouts().map(|layout| layout.model_type).collect();
        let own = types.pop().unwrap_or_default();
        format!("{} {last} {own}", types.join(", "))
    };
    let model_type = fields.text("model_type");
    let found = layouts().find(|layout| Some(layout.model_type) == model_type);
    let Some(layout) = found else {
        fields.complain(match model_type {
            Some(other) => format!("model_type = {other:?} is not implemented; {} are", known("and")),
            None => format!("has no model_type; {} is needed", known("or")),
        });
        return Err(Error::Config { path: path.to_path_buf(), problems: fields.problems });
    };
    let mut reading =
        Reading { fields, has: &|name| has(layout, name), labels: Vec::new(), warnings: Vec::new() };
    let config = (layout.read)(&mut reading).map(ModelConfig::canonical);
    let Reading { fields, has: _, labels, warnings } = reading;
    extra.labels = labels;
    let mut problems = fields.problems;
    match config {
        Some(config) if problems.is_empty() => {
            problems.extend(config.faults().into_iter().map(|fault| fault.message));
            if problems.is_empty() {
                return Ok(Described { layout, config, extra, warnings });
            }
        }
        _ => {}
    }
    Err(Error::Config { path: path.to_path_buf(), problems })
}

/// The `config.json` of a model, with the keys of transformers 4 and 5.
pub(super) fn write(layout: &Folder, config: &ModelConfig, extra: &Extra, dtype: &str) -> Value {
    write_as(layout, config, extra, dtype).unwrap_or_default().into()
}

fn write_as(layout: &Folder, config: &ModelConfig, extra: &Extra, dtype: &str) -> Option<Map<String, Value>> {
    let mut object = (layout.write)(config)?;
    object.insert("bos_token_id".into(), json!(extra.bos_token_id));
    object.insert("eos_token_id".into(), one_or_many(&extra.eos_token_id));
    // A model that depends on its padding id sets it itself.
    if object.get("pad_token_id").is_none_or(Value::is_null) {
        object.insert("pad_token_id".into(), json!(extra.pad_token_id));
    }
    if let Head::Classify { n_labels } = config.head {
        let labels: Vec<String> = match extra.labels.len() == n_labels {
            true => extra.labels.clone(),
            false => (0..n_labels).map(|i| format!("LABEL_{i}")).collect(),
        };
        let ids: Map<_, _> = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
        let back: Map<_, _> = labels.iter().enumerate().map(|(i, l)| (l.clone(), json!(i))).collect();
        object.insert("id2label".into(), ids.into());
        object.insert("label2id".into(), back.into());
        object.insert("problem_type".into(), json!("single_label_classification"));
    }
    object.insert("dtype".into(), json!(dtype));
    object.insert("torch_dtype".into(), json!(dtype));
    Some(object)
}

/// `generation_config.json`: the tokens that generation starts and ends with.
pub(super) fn generation_config(extra: &Extra) -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": extra.bos_token_id,
        "eos_token_id": one_or_many(&extra.eos_token_id),
        "pad_token_id": extra.pad_token_id,
    })
}

fn one_or_many(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    }
}

fn refuse_quantised(fields: &mut Fields) {
    for key in ["quantization_config", "compression_config"] {
        if let Some(value) = fields.get(key) {
            let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed");
            fields.complain(format!(
                "{key} (quant_method = {method:?}): quantized files are not read; float32, float16 and bfloat16 are"
            ));
        }
    }
}

fn read_tokens(fields: &mut Fields, extra: &mut Extra) {
    extra.bos_token_id = token(fields, "bos_token_id");
    extra.pad_token_id = token(fields, "pad_token_id");
    extra.eos_token_id = match fields.get("eos_token_id") {
        Some(Value::Array(ids)) => {
            let read: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
            if read.len() != ids.len() {
                fields.complain(format!(
                    "eos_token_id = {} is not a list of token ids",
                    Value::from(ids.clone())
                ));
            }
            read
        }
        _ => token(fields, "eos_token_id").into_iter().collect(),
    };
}

/// A token id; -1, which old configs use for "none", counts as absent.
fn token(fields: &mut Fields, key: &str) -> Option<u32> {
    let value = fields.get(key).filter(|value| value.as_i64() != Some(-1))?;
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    if id.is_none() {
        fields.complain(format!("{key} = {value} is not a token id"));
    }
    id
}
