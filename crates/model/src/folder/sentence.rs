//! sentence-transformers' files in a model folder: modules, pooling, and the maximum length of a text.
//!
//! `modules.json` lists the modules, each in its own folder: the transformer, `1_Pooling`, and for vectors of length 1
//! `2_Normalize`. The files of versions 2 to 6 are read; those written can be read by all of them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::Error;
use super::json::{read_object, read_value};
use crate::embedder::{Embedder, TextPooling};

const MODULES: &str = "modules.json";
const SETTINGS: &str = "config_sentence_transformers.json";
const POOLING: &str = "1_Pooling";

/// Names used for the file with the maximum length; the first is written.
const OF_TRANSFORMER: &[&str] = &[
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// The settings of sentence-transformers in a model folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentence {
    /// How a text's vectors become one.
    pub embedder: Embedder,
    /// The maximum number of tokens of a text, including special tokens; longer ones are truncated. `None` = the
    /// model's context.
    pub max_len: Option<usize>,
    /// `config_sentence_transformers.json`, kept unchanged.
    pub settings: Map<String, Value>,
}

/// Reads these files; `None` without a `modules.json`.
///
/// # Errors
/// Returns an error that names file and key if a file is missing or malformed, or requires something that is not
/// implemented.
pub(super) fn read(dir: &Path) -> Result<Option<Sentence>, Error> {
    let path = dir.join(MODULES);
    if !path.is_file() {
        return Ok(None);
    }
    let refuse =
        |path: &Path, problem: String| Error::Config { path: path.to_path_buf(), problems: vec![problem] };
    let listed = read_value(&path)?;
    let Some(listed) = listed.as_array() else {
        return Err(Error::Json { path, problem: "is JSON, but not a list of modules".into() });
    };
    let mut modules = Vec::new();
    for module in listed {
        let text = |key: &str| module.get(key).and_then(Value::as_str);
        let Some(kind) = text("type") else {
            return Err(refuse(&path, "names a module without a \"type\"".into()));
        };
        let kind = kind.rsplit('.').next().unwrap_or(kind);
        modules.push((kind, dir.join(text("path").unwrap_or_default()), text("path").unwrap_or_default()));
    }
    let kinds: Vec<&str> = modules.iter().map(|(kind, ..)| *kind).collect();
    let normalize = match kinds[..] {
        ["Transformer", "Pooling"] => false,
        ["Transformer", "Pooling", "Normalize"] => true,
        _ => {
            let known = ["Transformer", "Pooling", "Normalize"];
            let other = kinds.iter().find(|kind| !known.contains(kind));
            let what = other.map_or_else(|| kinds.join(", "), |kind| (*kind).to_owned());
            return Err(refuse(
                &path,
                format!(
                    "the modules {what} are not implemented; Transformer, Pooling and then Normalize or nothing are"
                ),
            ));
        }
    };
    if !modules[0].2.is_empty() {
        let place = modules[0].2;
        return Err(refuse(
            &path,
            format!(
                "the Transformer in a separate folder ({place:?}) is not implemented; \"\" is: move its files here"
            ),
        ));
    }
    let mut sentence = Sentence {
        embedder: Embedder { pooling: read_pooling(&modules[1].1)?, normalize },
        ..Sentence::default()
    };
    if let Some((_, place, _)) = modules.get(2) {
        read_normalize(&place.join("config.json"))?;
    }
    sentence.max_len = read_transformer(dir)?;
    let settings = dir.join(SETTINGS);
    if settings.is_file() {
        sentence.settings = read_object(&settings)?;
        let default = sentence.settings.get("default_prompt_name").and_then(Value::as_str);
        let prompt = default.and_then(|name| sentence.settings.get("prompts")?.get(name)?.as_str());
        if let Some(prompt) = prompt.filter(|prompt| !prompt.is_empty()) {
            return Err(refuse(
                &settings,
                format!(
                    "default_prompt_name puts {prompt:?} before every text, which is not implemented; set it to null, \
                     and write the prompt into the texts"
                ),
            ));
        }
    }
    Ok(Some(sentence))
}

/// The pooling in a module's folder: `pooling_mode` as version 6 writes it, or the one true flag of earlier versions.
fn read_pooling(dir: &Path) -> Result<TextPooling, Error> {
    let path = dir.join("config.json");
    let object = read_object(&path)?;
    let refuse = |problem: String| Error::Config { path: path.clone(), problems: vec![problem] };
    let names: Vec<String> = match object.get("pooling_mode") {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => {
            names.iter().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_owned)).collect()
        }
        Some(other) => vec![other.to_string()],
        None => {
            let flags = object.iter().filter(|(_, on)| **on == Value::Bool(true));
            flags.filter_map(|(key, _)| key.strip_prefix("pooling_mode_").map(word_of_flag)).collect()
        }
    };
    let known = || TextPooling::ALL.map(|pooling| format!("{:?}", pooling.word())).join(", ");
    match &names[..] {
        [name] => TextPooling::ALL.into_iter().find(|pooling| pooling.word() == name).ok_or_else(|| {
            refuse(format!("pooling_mode = {name:?} is not implemented; one of {} is", known()))
        }),
        [] => Err(refuse(format!("has no pooling_mode; one of {} is needed", known()))),
        _ => Err(refuse(format!(
            "pooling_mode joins {} vectors ({}), which is not implemented; one of {} is",
            names.len(),
            names.join(", "),
            known()
        ))),
    }
}

/// The suffix of `pooling_mode_…` as a mode: `cls_token`, `max_tokens` and others, but `mean_sqrt_len_tokens` and
/// `lasttoken`.
fn word_of_flag(flag: &str) -> String {
    if TextPooling::ALL.iter().any(|pooling| pooling.word() == flag) {
        return flag.to_owned();
    }
    flag.trim_end_matches("_tokens").trim_end_matches("_token").to_owned()
}

fn read_normalize(path: &Path) -> Result<(), Error> {
    if !path.is_file() {
        return Ok(());
    }
    let object = read_object(path)?;
    for key in ["module_input_name", "module_output_name"] {
        if let Some(other) = object.get(key).filter(|name| *name != "sentence_embedding" && !name.is_null()) {
            let problem = format!("{key} = {other} is not implemented; \"sentence_embedding\" is");
            return Err(Error::Config { path: path.to_path_buf(), problems: vec![problem] });
        }
    }
    Ok(())
}

/// The maximum number of tokens of a text: `max_seq_length`, else the tokenizer's limit.
fn read_transformer(dir: &Path) -> Result<Option<usize>, Error> {
    let path: Option<PathBuf> = OF_TRANSFORMER.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    let mut max_len = None;
    if let Some(path) = path {
        let object = read_object(&path)?;
        let mut problems = Vec::new();
        if object.get("do_lower_case") == Some(&Value::Bool(true)) {
            problems.push(
                "do_lower_case = true is not implemented; set it to false, and let the tokenizer's normalizer lowercase"
                    .to_owned(),
            );
        }
        for (key, only) in
            [("transformer_task", "feature-extraction"), ("module_output_name", "token_embeddings")]
        {
            if let Some(other) = object.get(key).filter(|value| *value != only && !value.is_null()) {
                problems.push(format!("{key} = {other} is not implemented; {only:?} is"));
            }
        }
        match object.get("max_seq_length") {
            None | Some(Value::Null) => {}
            Some(value) => {
                match value.as_u64().and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0) {
                    Some(len) => max_len = Some(len),
                    None => problems.push(format!(
                        "max_seq_length = {value} is not a number of tokens; 1 or more is needed"
                    )),
                }
            }
        }
        if !problems.is_empty() {
            return Err(Error::Config { path, problems });
        }
    }
    let tokenizer = dir.join("tokenizer_config.json");
    if max_len.is_none() && tokenizer.is_file() {
        // A tokenizer without a limit has 1e30.
        let length = read_object(&tokenizer)?.get("model_max_length").and_then(Value::as_u64);
        max_len = length.and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0);
    }
    Ok(max_len)
}

/// The files that store `sentence` for a model of width `d_hidden`: names within the folder, and contents.
pub fn sentence_files(sentence: &Sentence, d_hidden: usize) -> Vec<(String, String)> {
    let Sentence { embedder: Embedder { pooling, normalize }, max_len, settings } = sentence;
    let module = |idx: usize, path: &str, kind: &str| json!({ "idx": idx, "name": idx.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let mut modules = vec![module(0, "", "Transformer"), module(1, POOLING, "Pooling")];
    if *normalize {
        modules.push(module(2, "2_Normalize", "Normalize"));
    }
    let is = |wanted: TextPooling| json!(*pooling == wanted);
    let flags = json!({
        "word_embedding_dimension": d_hidden,
        "pooling_mode_cls_token": is(TextPooling::Cls),
        "pooling_mode_mean_tokens": is(TextPooling::Mean),
        "pooling_mode_max_tokens": is(TextPooling::Max),
        "pooling_mode_mean_sqrt_len_tokens": is(TextPooling::MeanSqrtLen),
        "pooling_mode_weightedmean_tokens": is(TextPooling::WeightedMean),
        "pooling_mode_lasttoken": is(TextPooling::Last),
        "include_prompt": true,
    });
    let settings = match settings.is_empty() {
        true => json!({ "prompts": {}, "default_prompt_name": null, "similarity_fn_name": "cosine" }),
        false => Value::Object(settings.clone()),
    };
    let transformer = json!({ "max_seq_length": max_len, "do_lower_case": false });
    let mut files = vec![
        (MODULES.to_owned(), Value::Array(modules)),
        (SETTINGS.to_owned(), settings),
        (OF_TRANSFORMER[0].to_owned(), transformer),
        (format!("{POOLING}/config.json"), flags),
    ];
    if *normalize {
        // Git and archives keep no empty folders, and versions before 6 require this one.
        files.push(("2_Normalize/config.json".to_owned(), json!({})));
    }
    files.into_iter().map(|(name, value)| (name, format!("{value:#}\n"))).collect()
}
