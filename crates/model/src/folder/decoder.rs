//! Reads a folder's weights for a [`Decoder`]: float32 where the file is mapped, or in a smaller type, tensor by
//! tensor, without float32 copies.

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
use crate::mapped::Mapped;
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
/// and matrices whose row length the type can't hold stay float32, as everything does if `to` is `None`. Float32 weights
/// are read where the file is mapped, if it has them in this project's order, and copied otherwise.
///
/// # Errors
/// As [`super::load`].
pub fn load_decoder(
    dir: &Path,
    to: impl Into<Option<PackedType>>,
    threads: usize,
) -> Result<LoadedDecoder, Error> {
    let to = to.into();
    let Opened { store, fitted, extra, mut warnings, layout: _, has_pooler: _ } = open(dir, None)?;
    let config = fitted.config;
    if !Decoder::supports(&config) {
        return Ok(LoadedDecoder { decoder: None, config, extra, warnings });
    }
    let parts = fitted.rows.iter().flat_map(|(stored, _)| &stored.parts);
    let shapes = parts.map(|(name, shape)| (name.as_str(), shape.as_slice()));
    let mut packing = Packing::new(&config, to, threads, shapes);
    for (stored, name) in &fitted.rows {
        let Some(entry) = store.entries().get(name) else { continue };
        for (part, (ours, shape)) in stored.parts.iter().enumerate() {
            let source = Source { store: &store, entry, stored, part };
            packing.add(ours, shape, || source.mapped(), &|rows, out| source.rows(rows, out));
        }
    }
    let decoder = Some(packing.finish(&config, &mut warnings)?);
    Ok(LoadedDecoder { decoder, config, extra, warnings })
}

/// As [`load_decoder`], of a model with an adapter: the two are merged in float32, and the result is packed.
///
/// # Errors
/// As [`super::load_with`].
pub fn load_decoder_merged(
    base: &Path,
    adapter: &Path,
    to: PackedType,
    threads: usize,
) -> Result<LoadedDecoder, Error> {
    let options = LoadOptions { adapter: Some(adapter.to_path_buf()), ..LoadOptions::default() };
    let Loaded { transformer, config, extra, mut warnings, newly_initialized: _ } =
        load_with(base, &options)?;
    if !Decoder::supports(&config) {
        return Ok(LoadedDecoder { decoder: None, config, extra, warnings });
    }
    let parameters = transformer.parameters();
    let shapes = parameters.iter().map(|(name, var)| (name, var.dims()));
    let mut packing = Packing::new(&config, Some(to), threads, shapes);
    for (name, var) in parameters.iter() {
        let numbers = var.as_detached_tensor().flatten_all()?.to_vec1::<f32>()?;
        let width = n_in(var.dims());
        packing.add(name, var.dims(), || None, &|rows, out| {
            out.copy_from_slice(&numbers[rows.start * width..rows.end * width]);
        });
    }
    let decoder = Some(packing.finish(&config, &mut warnings)?);
    Ok(LoadedDecoder { decoder, config, extra, warnings })
}

/// A decoder's weights as they are read, one after another.
pub(crate) struct Packing {
    to: Option<PackedType>,
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
        to: Option<PackedType>,
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
        let n_bytes = |(name, shape): (&str, &[usize])| match to.filter(|to| to.takes(n_in(shape))) {
            Some(to) if matrices.contains(name) => to.n_bytes(shape[0], n_in(shape)),
            _ => 0,
        };
        let arena = Arena::new(shapes.map(n_bytes).sum());
        let (team, weights) = (Team::new(threads), BTreeMap::new());
        Self { to, specs, matrices, arena, team, weights, wide: Vec::new() }
    }

    /// Takes up a parameter: if it stays float32 where its file is `mapped`, else what `rows` gives; whether it is the
    /// former.
    pub(crate) fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        mapped: impl FnOnce() -> Option<Mapped>,
        rows: &Rows<'_>,
    ) -> bool {
        let n_in = n_in(shape);
        let is_matrix = self.matrices.contains(name);
        let weights = match self.to.filter(|_| is_matrix) {
            Some(to) if to.takes(n_in) => {
                let memory = (&mut self.arena, &mut self.team);
                Weights::Packed(Packed::new(to, shape[0], n_in, memory, rows))
            }
            to => {
                if to.is_some() {
                    self.wide.push(name.to_owned());
                }
                mapped().map_or_else(
                    || {
                        let mut numbers = vec![0.0; shape.iter().product()];
                        rows(0..shape[0], &mut numbers);
                        Weights::Owned(numbers)
                    },
                    Weights::Mapped,
                )
            }
        };
        let is_mapped = matches!(weights, Weights::Mapped(_));
        self.weights.insert(name.to_owned(), weights);
        is_mapped
    }

    /// Takes up a parameter whose rows stand in blocks of the type already; whether it is one that is packed.
    pub(crate) fn add_blocks(&mut self, name: &str, shape: &[usize], rows: &BlockRows<'_>) -> bool {
        let n_in = n_in(shape);
        let holds = |to: &PackedType| self.matrices.contains(name) && to.n_row_bytes(n_in).is_some();
        let Some(to) = self.to.filter(holds) else { return false };
        let packed = Packed::from_blocks(to, shape[0], n_in, (&mut self.arena, &mut self.team), rows);
        self.weights.insert(name.to_owned(), Weights::Packed(packed));
        true
    }

    /// The decoder, once every parameter was taken up.
    ///
    /// # Errors
    /// Returns an error if one is missing.
    pub(crate) fn finish(
        self,
        config: &ModelConfig,
        warnings: &mut Vec<String>,
    ) -> Result<Decoder<'static>, Error> {
        let Self { to, specs, mut weights, team, wide, .. } = self;
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
        Ok(Decoder::own(config, layers, team, to.is_some())?)
    }
}

/// The length of a row.
fn n_in(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}
