//! Maps the tensors of a file to parameters, reports every mismatch, and converts the values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::FREQUENCIES;
use super::config::Described;
use super::container::{Entry, File};
use super::names::{Change, targets};
use crate::folder::Error;
use crate::layers::parameter_specs;
use crate::mapped::Mapped;

/// Maximum number of names in an error message.
const N_NAMED: usize = 8;

/// A parameter and its location in the file.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) entry: &'a Entry,
    /// Number of rows of other parameters before it in the tensor.
    first: usize,
    change: Change,
}

/// Finds every parameter of a model in its file.
///
/// # Errors
/// Returns an error that lists every missing tensor, every unknown one and every one of another shape.
pub(super) fn fit<'a>(file: &'a File, described: &Described) -> Result<Vec<Part<'a>>, Error> {
    let Described { architecture, config, .. } = described;
    let shapes: BTreeMap<String, Vec<usize>> =
        parameter_specs(config).into_iter().map(|spec| (spec.name, spec.shape)).collect();
    let (mut parts, mut missing, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    let mut used = BTreeSet::from([FREQUENCIES.to_owned()]);
    let mut placed = BTreeSet::new();
    for target in targets(architecture, config) {
        used.insert(target.name.clone());
        let of_parts: Vec<&Vec<usize>> =
            target.parts.iter().filter_map(|(name, _)| shapes.get(name)).collect();
        let mut wanted = of_parts.first().map_or_else(Vec::new, |shape| (*shape).clone());
        if let Some(rows) = wanted.first_mut() {
            *rows = of_parts.iter().filter_map(|shape| shape.first()).sum();
        }
        let Some(entry) = file.tensors().get(&target.name) else {
            // A tied tensor may be left out.
            if target.parts.iter().any(|(name, _)| !placed.contains(name)) {
                missing.push(target.name);
            }
            continue;
        };
        if entry.shape != wanted {
            let found = &entry.shape;
            problems.push(format!(
                "the tensor {} has shape {found:?}; expected {wanted:?} by the keys",
                target.name
            ));
            continue;
        }
        let mut first = 0;
        for ((name, change), shape) in target.parts.into_iter().zip(of_parts) {
            let n_rows = shape.first().copied().unwrap_or(1);
            if placed.insert(name.clone()) {
                parts.push(Part { name, shape: shape.clone(), entry, first, change });
            }
            first += n_rows;
        }
    }
    let others: Vec<&str> =
        file.tensors().keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        problems.push(format!("is missing tensors: {}", listed(&missing)));
    }
    if !others.is_empty() {
        problems.push(format!(
            "has tensors unknown to the architecture {}: {}",
            architecture.name,
            listed(&others)
        ));
    }
    match problems.is_empty() {
        true => Ok(parts),
        false => Err(file.wrong(problems)),
    }
}

fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(N_NAMED);
    let named = names[..names.len() - more].join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

impl Part<'_> {
    /// Whether the values are those in the file, except for the order of rows.
    pub(super) fn is_as_stored(&self) -> bool {
        self.shape.len() == 2 && matches!(self.change, Change::None | Change::SideBySide(_))
    }

    /// The values where the file is mapped; `None` if they are not float32, or not in our order.
    pub(super) fn mapped(&self, file: &File) -> Option<Mapped> {
        let is_matrix = self.shape.len() == 2 && self.change == Change::None;
        let rows = self.first..self.first + self.shape.first().copied().unwrap_or(1);
        file.mapped(self.entry, rows).filter(|_| is_matrix)
    }

    /// The row of the tensor that holds row `row` of the parameter.
    fn place(&self, row: usize) -> usize {
        let Change::SideBySide(n_head) = self.change else { return self.first + row };
        let width = self.shape[0] / n_head.max(1);
        let (head, channel, half) = (row / width, row % width, width / 2);
        let there = if channel < half { 2 * channel } else { 2 * (channel - half) + 1 };
        self.first + head * width + there
    }

    /// The bytes of a row.
    pub(super) fn row<'f>(&self, file: &'f File, row: usize) -> &'f [u8] {
        let place = self.place(row);
        file.rows(self.entry, place..place + 1)
    }

    /// Writes rows to `out` in float32.
    pub(super) fn rows(&self, file: &File, rows: Range<usize>, out: &mut [f32]) {
        let stored = self.entry.stored;
        if self.shape.len() < 2 {
            let mut all = vec![0.0; self.entry.shape.iter().product()];
            stored.widen(file.all(self.entry), &mut all);
            for (out, row) in out.iter_mut().zip(rows) {
                *out = all[self.place(row)];
            }
        } else if matches!(self.change, Change::SideBySide(_)) {
            let width = out.len() / rows.len().max(1);
            for (out, row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
                stored.widen(self.row(file, row), out);
            }
        } else {
            stored.widen(file.rows(self.entry, self.first + rows.start..self.first + rows.end), out);
        }
        if self.change == Change::PlusOne {
            // Exact: the file has the value plus one in float32, and the model adds the one again.
            out.iter_mut().for_each(|number| *number -= 1.0);
        }
    }
}
