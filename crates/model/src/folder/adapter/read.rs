//! Reads an adapter's tensors and matches them with a base model's table of names.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::error::{Error, Misfit};
use super::super::numbers;
use super::super::tensors::{Entry, Store};
use super::config::Settings;
use super::key::{Part, split};
use crate::adapter::{AdapterSpec, ModuleSpec, TOKEN};
use crate::config::{Head, ModelConfig};
use crate::families::{Folder, Names, Stored};

/// The tensors of a module's low-rank change, by their names in the file.
#[derive(Default)]
struct Low<'s> {
    a: Option<&'s str>,
    b: Option<&'s str>,
    magnitude: Option<&'s str>,
}

/// The contents of an adapter's folder.
pub(super) struct Saved {
    pub(super) spec: AdapterSpec,
    /// Values and shapes by our names: A, B, magnitudes, and parameters saved in full.
    pub(super) values: BTreeMap<String, (Vec<f32>, Vec<usize>)>,
    /// Whether it contains only one of head and token embedding, which the base model ties.
    pub(super) unties: bool,
    pub(super) warnings: Vec<String>,
}

/// The number of labels of the classifier saved with an adapter; `None` without one.
pub(super) fn n_labels(store: &Store, layout: &Folder) -> Option<usize> {
    let name = layout.names.of("head.classifier.weight");
    let wanted = name.strip_suffix(".weight")?.trim_start_matches('*');
    let holds = |name: &&String| {
        let (path, part) = split(name);
        path == wanted && part == Part::Whole("weight".to_owned())
    };
    let found = store.entries().keys().find(holds)?;
    store.entries().get(found)?.shape.first().copied()
}

/// Reads the tensors of an adapter of the model that `config` describes, in a folder of that layout.
///
/// # Errors
/// Returns [`Error::Misfit`] with every tensor that matches no parameter of the model or has another shape.
pub(super) fn read(
    dir: &Path,
    settings: &Settings,
    store: &Store,
    layout: &Folder,
    config: &ModelConfig,
) -> Result<Saved, Error> {
    let names = &layout.names;
    let is_tied = config.tied_head && matches!(config.head, Head::NextToken | Head::MaskedToken);
    let keys: Vec<(&str, String, Part)> = store
        .entries()
        .keys()
        .map(|name| {
            let (path, part) = split(name);
            (name.as_str(), path, part)
        })
        .collect();
    // A saved module is separate from then on.
    let apart = |ours: &str| {
        let paths = paths(names, &names.of(ours));
        keys.iter().any(|(_, path, part)| {
            paths.contains(path)
                && !matches!(part, Part::Unused)
                && (ours == "head.weight" || matches!(part, Part::Whole(_)))
        })
    };
    let unties = is_tied && (apart("head.weight") || apart("embedding.token.weight"));
    let untied = ModelConfig { tied_head: config.tied_head && !unties, ..config.clone() };
    let mut rows: BTreeMap<String, Stored> = BTreeMap::new();
    for stored in names.table(&untied) {
        for path in paths(names, &stored.name) {
            let last = stored.name.rsplit('.').next().unwrap_or_default();
            rows.insert(format!("{path}.{last}"), stored.clone());
        }
    }

    let mut misfit = Misfit::default();
    let mut low: BTreeMap<&str, Low> = BTreeMap::new();
    let mut saved =
        Saved { spec: AdapterSpec::default(), values: BTreeMap::new(), unties, warnings: Vec::new() };
    for (name, path, part) in &keys {
        let Some(entry) = store.entries().get(*name) else { continue };
        if !entry.is_float() {
            misfit.wrong_dtype.push(((*name).to_owned(), format!("{:?}", entry.dtype)));
            continue;
        }
        match part {
            Part::A => low.entry(path).or_default().a = Some(name),
            Part::B => low.entry(path).or_default().b = Some(name),
            Part::Magnitude => low.entry(path).or_default().magnitude = Some(name),
            Part::Unused => {}
            Part::Unknown => misfit.unexpected.push((*name).to_owned()),
            Part::Whole(last) => match rows.get(&format!("{path}.{last}")) {
                None => misfit.unexpected.push((*name).to_owned()),
                Some(stored) => whole(stored, name, entry, store, &mut saved, &mut misfit),
            },
        }
    }
    for (path, low) in low {
        match rows.get(&format!("{path}.weight")) {
            Some(stored) => change(settings, path, stored, &low, store, &mut saved, &mut misfit),
            None => {
                let own = [low.a, low.b, low.magnitude].into_iter().flatten();
                misfit.unexpected.extend(own.map(str::to_owned));
            }
        }
    }
    if !misfit.is_empty() {
        return Err(Error::Adapter { path: dir.to_path_buf(), misfit });
    }
    if saved.values.is_empty() {
        return Err(Error::NoModel {
            path: dir.to_path_buf(),
            problem: "contains an adapter without tensors".into(),
        });
    }
    if is_tied && (unties || saved.spec.modules.contains_key(TOKEN)) {
        saved.warnings.push(
            "the adapter changes one of token embedding and head, which the base model ties: they are now untied".into(),
        );
    }
    Ok(saved)
}

/// The paths under which the module of a stored tensor may be found.
fn paths(names: &Names, stored: &str) -> Vec<String> {
    let module = stored.rsplit_once('.').map_or(stored, |(module, _)| module);
    let prefixes = [names.prefix, ""].into_iter().chain(names.other_prefixes.iter().copied());
    prefixes.map(|prefix| module.replacen('*', prefix, 1)).collect()
}

/// Takes over a parameter that was saved in full.
fn whole(stored: &Stored, name: &str, entry: &Entry, store: &Store, saved: &mut Saved, misfit: &mut Misfit) {
    if entry.shape != stored.shape {
        misfit.wrong_shape.push((name.to_owned(), entry.shape.clone(), stored.shape.clone()));
        return;
    }
    let parts = numbers::cut(stored, store.floats(entry));
    for (part, (ours, shape)) in parts.into_iter().zip(&stored.parts) {
        saved.spec.whole.insert(ours.clone());
        saved.values.insert(ours.clone(), (part, shape.clone()));
    }
}

/// Takes over the low-rank change of the module at `path`, whose weight is `stored`.
fn change(
    settings: &Settings,
    path: &str,
    stored: &Stored,
    low: &Low,
    store: &Store,
    saved: &mut Saved,
    misfit: &mut Misfit,
) {
    let entry =
        |name: Option<&str>| name.and_then(|name| Some((name.to_owned(), store.entries().get(name)?)));
    let (Some((a_name, a)), Some((b_name, b))) = (entry(low.a), entry(low.b)) else {
        let (there, lacks) = if low.a.is_some() { ("A", "B") } else { ("B or a magnitude", "A") };
        misfit.missing.push(format!("{lacks} of {path}, which has {there}"));
        return;
    };
    let module = |name: &str| name.strip_suffix(".weight").unwrap_or(name).to_owned();
    let modules: Vec<String> = stored.parts.iter().map(|(name, _)| module(name)).collect();
    let Some((_, shape)) = stored.parts.first() else { return };
    let is_table = modules.first().is_some_and(|name| name == TOKEN);
    let n_out: usize = stored.parts.iter().map(|(_, shape)| shape[0]).sum();
    // A table's change is (B A)ᵀ.
    let (o, i) = if is_table {
        (shape.get(1).copied().unwrap_or(0), n_out)
    } else {
        (n_out, shape.get(1).copied().unwrap_or(0))
    };
    let rank = a.shape.first().copied().unwrap_or(0);
    for (name, entry, wanted) in [(&a_name, a, vec![rank, i]), (&b_name, b, vec![o, rank])] {
        if entry.shape != wanted || rank == 0 {
            misfit.wrong_shape.push((name.clone(), entry.shape.clone(), wanted));
        }
    }
    let magnitude = entry(low.magnitude);
    if let Some((name, entry)) = &magnitude {
        if is_table {
            misfit.unexpected.push(name.clone());
        } else if entry.shape.iter().product::<usize>() != n_out {
            misfit.wrong_shape.push((name.clone(), entry.shape.clone(), vec![n_out]));
        }
    }
    if !misfit.is_empty() {
        return;
    }
    let first = modules.first().cloned().unwrap_or_default();
    let own = ModuleSpec {
        first,
        rank,
        alpha: settings.alpha(path),
        rslora: settings.rslora,
        dora: magnitude.is_some(),
    };
    saved.values.insert(own.a(), (store.floats(a), a.shape.clone()));
    // B's rows are the weight's.
    let rows_of = |width: usize, entry: &Entry| {
        let part = |(name, shape): &(String, Vec<usize>)| {
            let rows = if is_table { o } else { shape[0] };
            (name.clone(), if width == 0 { vec![rows] } else { vec![rows, width] })
        };
        let parts: Vec<(String, Vec<usize>)> = stored.parts.iter().map(part).collect();
        let as_stored = Stored { parts, transposed: false, shape: entry.shape.clone(), ..stored.clone() };
        let cut = numbers::cut(&as_stored, store.floats(entry));
        cut.into_iter().zip(as_stored.parts).map(|(part, (_, shape))| (part, shape)).collect::<Vec<_>>()
    };
    for (name, part) in modules.iter().zip(rows_of(rank, b)) {
        saved.values.insert(ModuleSpec::b(name), part);
        saved.spec.modules.insert(name.clone(), own.clone());
    }
    if let Some((_, entry)) = magnitude {
        for (name, part) in modules.iter().zip(rows_of(0, entry)) {
            saved.values.insert(ModuleSpec::magnitude(name), part);
        }
    }
}
