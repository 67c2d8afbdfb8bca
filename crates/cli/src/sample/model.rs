//! Opens the model: as tensors, or with weights packed in a smaller dtype.

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
    /// With weights packed in a smaller dtype.
    Packed(Box<RefCell<Decoder<'static>>>, Box<ModelConfig>),
}

impl Model {
    /// The model's config.
    pub(super) fn config(&self) -> &ModelConfig {
        match self {
            Self::Tensors(model) => model.config(),
            Self::Packed(_, config) => config,
        }
    }

    /// The source of next tokens for generation.
    pub(super) fn source(&self) -> Source<'_> {
        match self {
            Self::Tensors(model) => Source::Tensors(model),
            Self::Packed(decoder, _) => Source::Packed(decoder),
        }
    }

    /// The model as tensors, for what packed weights can't do.
    ///
    /// # Errors
    /// Returns an error for a packed model, which only continues texts.
    pub(super) fn transformer(&self) -> Result<&Transformer, Failure> {
        match self {
            Self::Tensors(model) => Ok(model),
            Self::Packed(..) => Err(Failure::usage(anyhow!("--dtype works for continuing texts only"))),
        }
    }
}

/// Opens a model in the requested dtype.
///
/// # Errors
/// Returns an error if there is none, or the dtype doesn't suit the model or the device.
pub(super) fn open(args: &Args, source: &ModelSource, device: Device) -> Result<Opened, Failure> {
    let opened = match packed_type(args, source, &device)? {
        None => {
            let loaded = source.load(folder::LoadOptions { device, ..folder::LoadOptions::default() })?;
            loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            let model = Model::Tensors(Box::new(loaded.transformer.without_gradients()?));
            Opened { model, extra: loaded.extra }
        }
        Some(to) => {
            let loaded = match source {
                ModelSource::Folder(Sources { model, adapter: Some(adapter) }) => {
                    folder::load_packed_merged(model, adapter, to, kernel_threads())?
                }
                ModelSource::Folder(Sources { model, adapter: None }) => {
                    folder::load_packed(model, to, kernel_threads())?
                }
                ModelSource::File(file, _) => gguf::load_packed(file, to, kernel_threads())?,
            };
            loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            match (loaded.decoder, args.dtype) {
                (Some(decoder), _) => {
                    let decoder = Box::new(RefCell::new(decoder));
                    Opened { model: Model::Packed(decoder, Box::new(loaded.config)), extra: loaded.extra }
                }
                // The file's own dtype, which was not requested.
                (None, None) => {
                    let loaded = source.load(folder::LoadOptions::default())?;
                    let model = Model::Tensors(Box::new(loaded.transformer.without_gradients()?));
                    Opened { model, extra: loaded.extra }
                }
                (None, Some(dtype)) => {
                    return Err(Failure::usage(anyhow!(
                        "--dtype {} works for models that continue a text; this one needs f32",
                        name(dtype)
                    )));
                }
            }
        }
    };
    if args.lookup && opened.model.config().head != Head::NextToken {
        return Err(Failure::usage(anyhow!("--lookup works for models that continue a text only")));
    }
    Ok(opened)
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
