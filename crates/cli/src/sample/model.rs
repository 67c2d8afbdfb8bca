//! Opens the model: a decoder on the mapped file or on weights in a smaller dtype, or as tensors.

use std::cell::RefCell;

use anyhow::anyhow;
use candle_core::{DType, Device};
use vulpes_generate::Source;
use vulpes_model::folder::Sources;
use vulpes_model::{Decoder, Head, ModelConfig, PackedType, Transformer, folder, gguf, kernel_threads};

use super::args::{Args, WeightType};
use crate::ending::{Failure, say};
use crate::source::ModelSource;

/// A model, and the other contents of its folder or file.
pub(super) struct Opened {
    pub(super) model: Model,
    pub(super) extra: folder::Extra,
}

/// An opened model.
pub(super) enum Model {
    /// As tensors.
    Tensors(Box<Transformer>),
    /// A decoder, which only continues texts.
    Decoder(Box<RefCell<Decoder<'static>>>, Box<ModelConfig>),
}

impl Model {
    /// The model's config.
    pub(super) fn config(&self) -> &ModelConfig {
        match self {
            Self::Tensors(model) => model.config(),
            Self::Decoder(_, config) => config,
        }
    }

    /// The source of next tokens for generation.
    pub(super) fn source(&self) -> Source<'_> {
        match self {
            Self::Tensors(model) => Source::Tensors(model),
            Self::Decoder(decoder, _) => Source::Decoder(decoder),
        }
    }

    /// The model as tensors, for what a decoder can't do.
    ///
    /// # Errors
    /// Returns an error for a decoder, which only continues texts.
    pub(super) fn transformer(&self) -> Result<&Transformer, Failure> {
        match self {
            Self::Tensors(model) => Ok(model),
            Self::Decoder(..) => Err(Failure::usage(anyhow!("--dtype works for continuing texts only"))),
        }
    }
}

/// Opens a model in the requested dtype.
///
/// # Errors
/// Returns an error if there is none, or the dtype doesn't suit the model or the device.
pub(super) fn open(args: &Args, source: &ModelSource, device: Device) -> Result<Opened, Failure> {
    let to = packed_type(args, source, &device)?;
    // Rows of a file are computed in batches, which float32 tensors do faster than a decoder.
    let is_mapped = to.is_none() && device.is_cpu() && !args.asks_for_rows();
    let opened = match (decoder(source, to, is_mapped)?, to, args.dtype) {
        (Some(opened), ..) => opened,
        (None, Some(_), Some(dtype)) => {
            return Err(Failure::usage(anyhow!(
                "--dtype {} works for models that continue a text; this one needs f32",
                name(dtype)
            )));
        }
        // A file's own dtype was not requested.
        (None, ..) => {
            let loaded = source.load(folder::LoadOptions { device, ..folder::LoadOptions::default() })?;
            loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            let model = Model::Tensors(Box::new(loaded.transformer.without_gradients()?));
            Opened { model, extra: loaded.extra }
        }
    };
    if args.lookup && opened.model.config().head != Head::NextToken {
        return Err(Failure::usage(anyhow!("--lookup works for models that continue a text only")));
    }
    Ok(opened)
}

/// The decoder of a model, in a smaller dtype or, if `is_mapped`, in float32; `None` if there is none.
fn decoder(source: &ModelSource, to: Option<PackedType>, is_mapped: bool) -> Result<Option<Opened>, Failure> {
    let loaded = match (source, to) {
        (ModelSource::Folder(Sources { model, adapter: Some(adapter) }), Some(to)) => {
            folder::load_decoder_merged(model, adapter, to, kernel_threads())?
        }
        (ModelSource::Folder(Sources { model, adapter: None }), to) if to.is_some() || is_mapped => {
            folder::load_decoder(model, to, kernel_threads())?
        }
        (ModelSource::File(file, _), to) if to.is_some() || is_mapped => {
            gguf::load_decoder(file, to, kernel_threads())?
        }
        _ => return Ok(None),
    };
    Ok(loaded.decoder.map(|decoder| {
        loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
        let model = Model::Decoder(Box::new(RefCell::new(decoder)), Box::new(loaded.config));
        Opened { model, extra: loaded.extra }
    }))
}

fn packed_type(args: &Args, source: &ModelSource, device: &Device) -> Result<Option<PackedType>, Failure> {
    // A file's own type, for a model that it goes with.
    let own = |file: &gguf::File| -> Result<Option<PackedType>, Failure> {
        let (stored, continues) = gguf::stored(file)?;
        Ok(stored.packed().filter(|_| continues && device.is_cpu()))
    };
    let to = match (args.dtype, source) {
        (Some(WeightType::F32), _) | (None, ModelSource::Folder(_)) => None,
        (Some(WeightType::Bf16), _) => Some(PackedType::Bf16),
        (Some(WeightType::Q80), _) => Some(PackedType::Q8_0),
        (Some(WeightType::Q40), _) => Some(PackedType::Q4_0),
        (Some(WeightType::Auto) | None, ModelSource::File(file, _)) => own(file)?,
        (Some(WeightType::Auto), ModelSource::Folder(sources)) => {
            let found = folder::describe(&sources.model)?;
            let continues = found.config.head == Head::NextToken && device.is_cpu();
            (found.dtype == DType::BF16 && continues).then_some(PackedType::Bf16)
        }
    };
    if let (Some(_), Some(dtype), false) = (to, args.dtype, device.is_cpu()) {
        return Err(Failure::usage(anyhow!(
            "--dtype {} is supported on the CPU only; add --device cpu, or leave it out",
            name(dtype)
        )));
    }
    if args.lookup && !device.is_cpu() {
        return Err(Failure::usage(anyhow!(
            "--lookup is supported on the CPU only; add --device cpu, or leave it \
                                           out"
        )));
    }
    Ok(to)
}

fn name(dtype: WeightType) -> String {
    use clap::ValueEnum;
    dtype.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
