//! Reads models from GGUF files: the families that `vulpes export --to gguf` writes, by the same tables.
//!
//! [`File`] (keys and tensor locations) → [`crate::ModelConfig`] (config, layers) → its tensors, found under llama.cpp's names
//! (names, fit) → values, restored to this project's order, for a [`Transformer`] or, in the stored type, for a
//! [`crate::Decoder`]. Callers read the tokenizer from [`File::keys`].

mod architecture;
mod config;
mod container;
mod fit;
pub mod keys;
mod layers;
mod names;
mod said;
mod types;

use std::collections::BTreeMap;

pub use architecture::{ARCHITECTURES, Architecture, Biases, Differ, Factors, HeadForm};
pub use config::unsaid;
pub use container::File;
pub use layers::frequency_factors;
pub use names::{Change, Target, targets};
pub use types::Stored;

use crate::folder::{self, Description, Error, LoadOptions, Loaded, LoadedDecoder, Packing};
pub use crate::magic::is_gguf;
use crate::parameters::Parameters;
use crate::transformer::Transformer;
use crate::{Decoder, Head, PackedType};
use config::Described;
use fit::Part;

/// The tensor of the divisors of the rotary frequencies.
pub const FREQUENCIES: &str = "rope_freqs.weight";

/// Describes the model of a file without reading its weights.
///
/// # Errors
/// As [`load`].
pub fn describe(file: &File) -> Result<Description, Error> {
    let (Described { config, extra, .. }, parts) = opened(file)?;
    let dtype = match matrices(&parts) {
        Stored::F16 => candle_core::DType::F16,
        Stored::Bf16 => candle_core::DType::BF16,
        Stored::F32 | Stored::Q8_0 | Stored::Q4_0 => candle_core::DType::F32,
    };
    Ok(Description { config, extra, warnings: Vec::new(), dtype })
}

/// Returns the type that most matrix elements of a file are stored in, and whether its model generates text.
///
/// # Errors
/// As [`load`].
pub fn stored(file: &File) -> Result<(Stored, bool), Error> {
    let (described, parts) = opened(file)?;
    Ok((matrices(&parts), described.config.head == Head::NextToken))
}

fn matrices(parts: &[Part]) -> Stored {
    let mut counts: BTreeMap<Stored, usize> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.shape.len() == 2) {
        *counts.entry(part.entry.stored).or_default() += part.shape.iter().product::<usize>();
    }
    counts.into_iter().max_by_key(|(_, n)| *n).map_or(Stored::F32, |(stored, _)| stored)
}

fn opened(file: &File) -> Result<(Described, Vec<Part<'_>>), Error> {
    let described = config::describe(file)?;
    let parts = fit::fit(file, &described)?;
    Ok((described, parts))
}

/// Loads the model of a file; quantized and 16-bit weights are widened.
///
/// # Errors
/// Returns an error if the file's architecture or a key is not supported, or its tensors don't match its keys; the
/// message lists every problem.
pub fn load(file: &File, options: &LoadOptions) -> Result<Loaded, Error> {
    let (Described { config, extra, .. }, parts) = opened(file)?;
    let mut parameters = BTreeMap::new();
    for part in &parts {
        let mut numbers = vec![0.0; part.shape.iter().product()];
        part.rows(file, 0..part.shape.first().copied().unwrap_or(1), &mut numbers);
        file.give_back(part.entry);
        parameters.insert(part.name.clone(), folder::var(numbers, &part.shape, options)?);
    }
    let transformer = Transformer::from_parameters(&config, Parameters::from_map(parameters))?;
    Ok(Loaded { transformer, config, extra, warnings: Vec::new(), newly_initialized: Vec::new() })
}

/// Loads the model of a file for generation, as [`folder::load_decoder`] does: blocks of the type `to` are copied,
/// other types are converted via float32, a few rows at a time.
///
/// # Errors
/// As [`load`].
pub fn load_decoder(
    file: &File,
    to: impl Into<Option<PackedType>>,
    threads: usize,
) -> Result<LoadedDecoder, Error> {
    let to = to.into();
    let (Described { config, extra, .. }, parts) = opened(file)?;
    if !Decoder::supports(&config) {
        return Ok(LoadedDecoder { decoder: None, config, extra, warnings: Vec::new() });
    }
    let shapes = parts.iter().map(|part| (part.name.as_str(), part.shape.as_slice()));
    let mut packing = Packing::new(&config, to, threads, shapes);
    for part in &parts {
        let has_blocks = to.is_some() && part.entry.stored.packed() == to && part.is_as_stored();
        let is_taken = has_blocks && packing.add_blocks(&part.name, &part.shape, &|row| part.row(file, row));
        let is_mapped = !is_taken && {
            let mapped = || part.mapped(file);
            packing.add(&part.name, &part.shape, mapped, &|rows, out| part.rows(file, rows, out))
        };
        if !is_mapped {
            file.give_back(part.entry);
        }
    }
    let mut warnings = Vec::new();
    let decoder = Some(packing.finish(&config, &mut warnings)?);
    Ok(LoadedDecoder { decoder, config, extra, warnings })
}
