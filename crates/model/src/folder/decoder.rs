//! Reads a folder's weights into a smaller type for a [`Decoder`], tensor by tensor, without float32 copies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vulpes_ops::decode::{Arena, BlockRows, Packed, PackedType, Rows, Team};

use super::error::Error;
use super::layout::Extra;
use super::source::Source;
use super::{LoadOptions, Loaded, Opened, load_with, open};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Weights};
use crate::layers::Layers;
use crate::spec::{Kind, ParameterSpec, Part};

/// A decoder read from a folder.
pub struct LoadedDecoder {
    /// The model; `None` if a decoder doesn't support it (see [`Decoder::new`]).
    pub decoder: Option<Decoder<'static>>,
    /// Its config.
    pub config: ModelConfig,
    /// Special tokens.
    pub extra: Extra,
    /// As [`super::Loaded::warnings`].
    pub warnings: Vec<String>,
}

/// Reads a model folder with its matrices, including the token embedding, in the type `to`; vectors, position tables,
/// and matrices whose row length the type can't hold stay float32.
///
/// # Errors
/// As [`super::load`].
pub fn load_packed(dir: &Path, to: PackedType, threads: usize) -> Result<LoadedDecoder, Error> {
    let Opened { store, fitted, extra, mut warnings, layout: _, has_pooler: _ } = open(dir, None)?;
    let config = fitted.config;
    let parts = fitted.rows.iter().flat_map(|(stored, _)| &stored.parts);
    let shapes = parts.map(|(name, shape)| (name.as_str(), shape.as_slice()));
    let mut packing = Packing::new(&config, to, threads, shapes);
    for (stored, name) in &fitted.rows {
        let Some(entry) = store.entries().get(name) else { continue };
        for (part, (ours, shape)) in stored.parts.iter().enumerate() {
            let source = Source { store: &store, entry, stored, part };
            packing.add(ours, shape, &|rows, out| source.rows(rows, out));
        }
    }
    let decoder = packing.finish(&config, &mut warnings)?;
    Ok(LoadedDecoder { decoder, config, extra, warnings })
}

/// As [`load_packed`], of a model with an adapter: the two are merged in float32, and the result is packed.
///
/// # Errors
/// As [`super::load_with`].
pub fn load_packed_merged(
    base: &Path,
    adapter: &Path,
    to: PackedType,
    threads: usize,
) -> Result<LoadedDecoder, Error> {
    let options = LoadOptions { adapter: Some(adapter.to_path_buf()), ..LoadOptions::default() };
    let Loaded { transformer, config, extra, mut warnings, newly_initialized: _ } =
        load_with(base, &options)?;
    let parameters = transformer.parameters();
    let shapes = parameters.iter().map(|(name, var)| (name, var.dims()));
    let mut packing = Packing::new(&config, to, threads, shapes);
    for (name, var) in parameters.iter() {
        let numbers = var.as_detached_tensor().flatten_all()?.to_vec1::<f32>()?;
        let width = n_in(var.dims());
        packing.add(name, var.dims(), &|rows, out| {
            out.copy_from_slice(&numbers[rows.start * width..rows.end * width]);
        });
    }
    let decoder = packing.finish(&config, &mut warnings)?;
    Ok(LoadedDecoder { decoder, config, extra, warnings })
}

/// A decoder's weights as they are read, one after another.
pub(crate) struct Packing {
    to: PackedType,
    specs: Layers<ParameterSpec>,
    /// The parameters that are packed if the type can hold their rows.
    matrices: BTreeSet<String>,
    arena: Arena,
    team: Team,
    weights: BTreeMap<String, Weights<'static>>,
    /// The matrices that the type can't hold.
    wide: Vec<String>,
}

impl Packing {
    pub(crate) fn new<'a>(
        config: &ModelConfig,
        to: PackedType,
        threads: usize,
        shapes: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Self {
        let specs = Layers::of(config);
        let is_matrix = |spec: &&&ParameterSpec| {
            spec.role.kind == Kind::Matrix
                || (spec.role.kind == Kind::Embedding && spec.role.part == Part::Token)
        };
        let matrices: BTreeSet<String> =
            specs.leaves().iter().filter(is_matrix).map(|spec| spec.name.clone()).collect();
        let packed = shapes.filter(|(name, shape)| matrices.contains(*name) && to.takes(n_in(shape)));
        let arena = Arena::new(packed.map(|(_, shape)| to.n_bytes(shape[0], n_in(shape))).sum());
        let (team, weights) = (Team::new(threads), BTreeMap::new());
        Self { to, specs, matrices, arena, team, weights, wide: Vec::new() }
    }

    /// Takes up a parameter whose rows `rows` gives.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], rows: &Rows<'_>) {
        let n_in = n_in(shape);
        let is_matrix = self.matrices.contains(name);
        let weights = if is_matrix && self.to.takes(n_in) {
            Weights::Packed(Packed::new(self.to, shape[0], n_in, (&mut self.arena, &mut self.team), rows))
        } else {
            if is_matrix {
                self.wide.push(name.to_owned());
            }
            let mut numbers = vec![0.0; shape.iter().product()];
            rows(0..shape[0], &mut numbers);
            Weights::Owned(numbers)
        };
        self.weights.insert(name.to_owned(), weights);
    }

    /// Takes up a parameter whose rows stand in blocks of the type already; whether it is one that is packed.
    pub(crate) fn add_blocks(&mut self, name: &str, shape: &[usize], rows: &BlockRows<'_>) -> bool {
        let n_in = n_in(shape);
        let is_packed = self.matrices.contains(name) && self.to.n_row_bytes(n_in).is_some();
        if is_packed {
            let memory = (&mut self.arena, &mut self.team);
            let packed = Packed::from_blocks(self.to, shape[0], n_in, memory, rows);
            self.weights.insert(name.to_owned(), Weights::Packed(packed));
        }
        is_packed
    }

    /// The decoder, once every parameter was taken up.
    ///
    /// # Errors
    /// Returns an error if one is missing.
    pub(crate) fn finish(
        self,
        config: &ModelConfig,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Decoder<'static>>, Error> {
        let Self { specs, mut weights, team, wide, .. } = self;
        if let [first, ..] = wide.as_slice() {
            warnings.push(format!(
                "{} of the matrices, the first is {first}, have a row length that is not a multiple of 32: they stay \
                 float32",
                wide.len()
            ));
        }
        let layers = specs.try_map(&mut |spec| {
            weights.remove(&spec.name).ok_or_else(|| crate::Error::MissingParameter(spec.name.clone()))
        })?;
        Ok(Decoder::own(config, layers, team)?)
    }
}

/// The length of a row.
fn n_in(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}
