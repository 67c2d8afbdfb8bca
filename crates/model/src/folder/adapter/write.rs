//! Writes an adapter as a folder that PEFT reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};

use super::super::error::Error;
use super::super::layout::{self, Extra};
use super::super::numbers;
use super::super::sentence::sentence_files;
use super::super::write::{Header, write};
use super::super::write_json;
use super::key::PREFIX;
use super::{CONFIG, LABELS, WEIGHTS};
use crate::adapter::{AdapterSpec, ModuleSpec, TOKEN};
use crate::config::{Head, ModelConfig};
use crate::families::Stored;
use crate::transformer::Transformer;

/// The names of the files that [`save_adapter`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFiles(pub Vec<String>);

/// One tensor of the file.
struct Row {
    name: String,
    /// How it is assembled from our parameters.
    stored: Stored,
}

/// Writes the adapter of a model into `dir`, as a PEFT folder for the model `base`: a folder, or a name on the hub.
///
/// # Errors
/// Returns an error if the model has no adapter, or a file can't be written.
pub fn save_adapter(
    dir: &Path,
    transformer: &Transformer,
    base: &str,
    extra: &Extra,
) -> Result<AdapterFiles, Error> {
    let Some(spec) = transformer.adapter() else {
        let problem = "the model has no adapter to save".to_owned();
        return Err(Error::NoModel { path: dir.to_path_buf(), problem });
    };
    let config = transformer.config();
    let (rows, paths) = rows(config, spec);
    let parameters = transformer.parameters();
    let dtype = match spec.modules.values().next() {
        Some(module) => parameters.get(&module.a())?.dtype(),
        None => DType::F32,
    };
    let (stored_dtype, _, width) = numbers::stored_dtype(dtype);
    let header = |row: &Row| Header {
        name: row.name.clone(),
        dtype: (stored_dtype, width),
        shape: row.stored.shape.clone(),
    };
    let headers: Vec<Header> = rows.iter().map(header).collect();
    std::fs::create_dir_all(dir).map_err(Error::write(dir))?;
    write(&dir.join(WEIGHTS), &headers, &|number, out| {
        let stored = &rows[number].stored;
        let parts: crate::Result<Vec<&Tensor>> =
            stored.parts.iter().map(|(name, _)| parameters.get(name).map(|var| var.as_tensor())).collect();
        numbers::each_bytes(stored, &parts?, out)
    })?;
    write_json(&dir.join(CONFIG), &described(config, spec, &paths, base))?;
    let mut files = vec![WEIGHTS.to_owned(), CONFIG.to_owned()];
    if let (Head::Classify { .. }, false) = (config.head, extra.labels.is_empty()) {
        let labels: Map<_, _> = extra
            .labels
            .iter()
            .enumerate()
            .map(|(number, label)| (number.to_string(), json!(label)))
            .collect();
        write_json(&dir.join(LABELS), &json!({ "id2label": labels }))?;
        files.push(LABELS.to_owned());
    }
    for (name, text) in extra.sentence.iter().flat_map(|own| sentence_files(own, config.d_hidden())) {
        let path = dir.join(&name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        std::fs::write(&path, text).map_err(Error::write(&path))?;
        files.push(name);
    }
    Ok(AdapterFiles(files))
}

/// The paths of the modules in a folder, and which are adapted or trained in full.
#[derive(Default)]
struct Paths {
    /// All modules.
    all: BTreeSet<String>,
    /// Those with a low-rank change, each with its spec.
    changed: BTreeMap<String, ModuleSpec>,
    /// Those that are saved in full.
    whole: BTreeSet<String>,
    /// Trained biases of modules whose weight isn't saved.
    n_biases: usize,
    /// Trained biases of modules with a low-rank change.
    n_own_biases: usize,
}

/// The tensors of an adapter's file, by name, and the paths of its modules.
fn rows(config: &ModelConfig, spec: &AdapterSpec) -> (Vec<Row>, Paths) {
    let layout = layout::of(config);
    let prefix = layout::written_prefix(layout, config);
    let table = layout.names.table(config);
    let mut paths = Paths::default();
    let mut rows: Vec<Row> = Vec::new();
    for stored in &table {
        let name = stored.name.replacen('*', prefix, 1);
        let Some((path, last)) = name.rsplit_once('.') else { continue };
        paths.all.insert(path.to_owned());
        let modules: Vec<&str> = stored
            .parts
            .iter()
            .filter_map(|(name, _)| name.rsplit_once('.').map(|(module, _)| module))
            .collect();
        let changed = modules.first().and_then(|module| spec.modules.get(*module));
        if let Some(module) = changed.filter(|_| last == "weight") {
            paths.changed.insert(path.to_owned(), module.clone());
            rows.extend(of_change(path, module, &modules, stored));
        }
        if stored.parts.iter().any(|(name, _)| spec.whole.contains(name)) {
            let within = if changed.is_some() { "base_layer." } else { "" };
            let weight = format!("{path}.weight");
            let is_saved = |one: &Stored| {
                one.name.replacen('*', prefix, 1) == weight
                    && one.parts.iter().any(|(name, _)| spec.whole.contains(name))
            };
            if changed.is_none() && table.iter().any(is_saved) {
                paths.whole.insert(path.to_owned());
            } else {
                paths.n_biases += 1;
                paths.n_own_biases += usize::from(changed.is_some());
            }
            rows.push(Row { name: format!("{PREFIX}{path}.{within}{last}"), stored: stored.clone() });
        }
    }
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    (rows, paths)
}

/// A, B and magnitude of the module at `path`, which holds our `modules`.
fn of_change(path: &str, module: &ModuleSpec, modules: &[&str], stored: &Stored) -> Vec<Row> {
    let (r, shape) = (module.rank, stored.parts.first().map(|(_, shape)| shape.clone()).unwrap_or_default());
    let n_out: usize = stored.parts.iter().map(|(_, shape)| shape[0]).sum();
    let n_in = shape.get(1).copied().unwrap_or(0);
    let is_table = modules.first() == Some(&TOKEN);
    let (o, i) = if is_table { (n_in, n_out) } else { (n_out, n_in) };
    let (names, ending) = match is_table {
        true => (["lora_embedding_A", "lora_embedding_B"], ""),
        false => (["lora_A", "lora_B"], ".weight"),
    };
    let row = |what: &str, parts: Vec<(String, Vec<usize>)>, shape: Vec<usize>| Row {
        name: format!("{PREFIX}{path}.{what}"),
        stored: Stored { name: String::new(), shape, parts, transposed: false, n_piece: stored.n_piece },
    };
    // B's rows are the weight's; A is shared by all.
    let rows_of = |name: fn(&str) -> String, width: Option<usize>| {
        let part = |(module, (_, shape)): (&&str, &(String, Vec<usize>))| {
            let rows = if is_table { o } else { shape[0] };
            (name(module), [Some(rows), width].into_iter().flatten().collect())
        };
        modules.iter().zip(&stored.parts).map(part).collect::<Vec<_>>()
    };
    let mut a = row(&format!("{}{ending}", names[0]), vec![(module.a(), vec![r, i])], vec![r, i]);
    a.stored.n_piece = 1;
    let b = row(&format!("{}{ending}", names[1]), rows_of(ModuleSpec::b, Some(r)), vec![o, r]);
    let magnitude =
        module.dora.then(|| row("lora_magnitude_vector", rows_of(ModuleSpec::magnitude, None), vec![o]));
    [a, b].into_iter().chain(magnitude).collect()
}

/// `adapter_config.json`, with the keys that PEFT writes.
fn described(config: &ModelConfig, spec: &AdapterSpec, paths: &Paths, base: &str) -> Value {
    let usual = usual(paths);
    let (rank, alpha) = usual.map_or((8, 8.0), |module| (module.rank, module.alpha));
    let pattern = |value: &dyn Fn(&ModuleSpec) -> Option<Value>| -> Map<String, Value> {
        let own = paths
            .changed
            .iter()
            .filter_map(|(path, module)| Some((path.replace('.', "\\."), value(module)?)));
        own.collect()
    };
    let task = match config.head {
        Head::NextToken => json!("CAUSAL_LM"),
        Head::Classify { .. } => json!("SEQ_CLS"),
        Head::Hidden { .. } => json!("FEATURE_EXTRACTION"),
        Head::MaskedToken => Value::Null,
    };
    let bias = match (paths.n_biases, paths.n_own_biases) {
        (0, _) => "none",
        (all, own) if all == own => "lora_only",
        _ => "all",
    };
    let is_transposed = layout::of(config).names.transposed;
    json!({
        "alpha_pattern": pattern(&|module| (module.alpha != alpha).then(|| number(module.alpha))),
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": bias,
        "fan_in_fan_out": is_transposed,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": number(alpha),
        "lora_dropout": spec.dropout,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": if paths.whole.is_empty() { Value::Null } else { json!(paths.whole) },
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": pattern(&|module| (module.rank != rank).then(|| json!(module.rank))),
        "revision": null,
        "target_modules": target_modules(paths),
        "task_type": task,
        "use_dora": usual.is_some_and(|module| module.dora),
        "use_rslora": usual.is_some_and(|module| module.rslora),
    })
}

/// A number in Python's form, without a fraction if it is an integer.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// The module whose settings are the default; the others are given by patterns.
fn usual(paths: &Paths) -> Option<&ModuleSpec> {
    let mut counts: Vec<(&ModuleSpec, usize)> = Vec::new();
    for module in paths.changed.values() {
        let same = |one: &ModuleSpec| (one.rank, one.alpha) == (module.rank, module.alpha);
        match counts.iter_mut().find(|(one, _)| same(one)) {
            Some((_, count)) => *count += 1,
            None => counts.push((module, 1)),
        }
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(module, _)| module)
}

/// The adapted modules by the ends of their paths if those match no other module, else by the full paths.
fn target_modules(paths: &Paths) -> Vec<String> {
    let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
    let ends: BTreeSet<String> = paths.changed.keys().map(last).collect();
    let means_another = |path: &&String| ends.contains(&last(path)) && !paths.changed.contains_key(*path);
    match paths.all.iter().any(|path| means_another(&path)) {
        true => paths.changed.keys().cloned().collect(),
        false => ends.into_iter().collect(),
    }
}
