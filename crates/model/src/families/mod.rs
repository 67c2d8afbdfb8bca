//! The model families, one file each: preset, tensor names, and `config.json` in both directions.
//!
//! To add one: its name in [`Family`], its file here, its row in the table below.

mod base;
mod bert;
mod decoder;
mod distilbert;
mod encoder;
mod fields;
mod fox;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod granite;
mod heads;
mod llama;
mod modernbert;
mod mpnet;
mod names;
mod olmo2;
mod own;
mod phi;
mod qwen2;
mod qwen3;
mod roberta;
mod rope;
mod smollm3;
mod windows;
mod words;
mod xlm_roberta;

use serde_json::{Map, Value};

pub(crate) use fields::Fields;
pub(crate) use names::{Names, Stored};

use crate::config::{Family, ModelConfig};

/// The one table of families: a variant of [`Family`] without a row here doesn't compile.
macro_rules! table {
    ($($family:ident: $module:ident),* $(,)?) => {
        /// Every family.
        pub(crate) static FAMILIES: &[&Definition] = &[$(&$module::FAMILY),*];

        /// The definition of a family.
        pub(crate) fn of(family: Family) -> &'static Definition {
            match family {
                $(Family::$family => &$module::FAMILY,)*
            }
        }
    };
}

table! {
    Fox: fox,
    Gpt2: gpt2,
    Bert: bert,
    Llama: llama,
    Qwen2: qwen2,
    Qwen3: qwen3,
    Olmo2: olmo2,
    Smollm3: smollm3,
    Granite: granite,
    GptNeox: gpt_neox,
    Phi: phi,
    Gemma3: gemma3,
    Roberta: roberta,
    XlmRoberta: xlm_roberta,
    Distilbert: distilbert,
    Mpnet: mpnet,
    Modernbert: modernbert,
}

/// Layouts that are read but never written.
pub(crate) static READ_ONLY: &[&Folder] = &[&gemma3::WITH_PICTURES];

/// The layout that can express every model: Vulpes' own.
pub(crate) static OWN: &Folder = &own::FOLDER;

/// Everything about a family.
pub(crate) struct Definition {
    preset: fn() -> ModelConfig,
    /// The layout of its model folders in transformers; `None` if transformers has no class for it.
    pub(crate) folder: Option<Folder>,
}

/// A layout of model folders.
pub(crate) struct Folder {
    /// Its `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// Its description.
    pub(crate) about: About,
    /// The names of its tensors.
    pub(crate) names: Names,
    /// The config that `config.json` describes; problems go to its fields.
    pub(crate) read: fn(&mut Reading) -> Option<ModelConfig>,
    /// The `config.json` of a model; `None` if it can't have one. A setting that it can't express shows when it is read
    /// back.
    pub(crate) write: fn(&ModelConfig) -> Option<Map<String, Value>>,
}

/// The description of a layout for readers.
pub(crate) struct About {
    /// Its classes in transformers.
    pub(crate) classes: &'static [&'static str],
    /// What its `config.json` may say, in Markdown.
    pub(crate) says: &'static str,
}

/// The layouts as README's table in Markdown.
pub(crate) fn as_markdown() -> String {
    let mut text =
        String::from("| folder | class of transformers | what its config may say |\n|---|---|---|\n");
    for folder in FAMILIES.iter().filter_map(|family| family.folder.as_ref()).chain([OWN]) {
        let classes: Vec<String> = folder.about.classes.iter().map(|class| format!("`{class}`")).collect();
        let classes = if classes.is_empty() { "none".to_owned() } else { classes.join(", ") };
        text += &format!("| `{}` | {classes} | {} |\n", folder.model_type, folder.about.says);
    }
    text
}

/// A `config.json` in the process of being read.
pub(crate) struct Reading<'a> {
    /// Its fields, and the problems with them.
    pub(crate) fields: Fields<'a>,
    /// Whether the folder contains a tensor of that name (`*` for the prefix).
    pub(crate) has: &'a dyn Fn(&str) -> bool,
    /// The labels of a classifier, if the layout has them.
    pub(crate) labels: Vec<String>,
    /// Differences between the model as stored and as read.
    pub(crate) warnings: Vec<String>,
}

impl Definition {
    /// The preset: what a config of this family has by default.
    pub(crate) fn preset(&self) -> ModelConfig {
        (self.preset)()
    }
}
