//! A LoRA adapter as a GGUF file, which llama.cpp applies to the file of its base model (`--lora`).

use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use vulpes_model::adapter::{AdapterSpec, ModuleSpec};
use vulpes_model::folder::{self, LoadOptions};
use vulpes_model::gguf;

use super::file::{self, Keys};
use super::{said, tensors};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::{Exported, Request};

/// Writes the adapter of a model.
///
/// llama.cpp scales each tensor by one alpha over its rank: any other factor of a module is multiplied into its B.
///
/// # Errors
/// As for [`crate::export`]; also if there is no adapter, or llama.cpp can't represent it.
pub(crate) fn write(request: &Request) -> Result<Exported> {
    let refused = |reason: &str| {
        let reasons = vec![format!("{reason}; merge it: --to gguf")];
        Error::Architecture { form: "a GGUF adapter".into(), reasons }
    };
    let Some(adapter) = &request.model.adapter else {
        let reasons = vec!["a model without an adapter; set one with --adapter".to_owned()];
        return Err(Error::Architecture { form: "a GGUF adapter".into(), reasons });
    };
    if let Some(dtype) = request.dtype.filter(|dtype| !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16))
    {
        return Err(refused(&format!("values in {}: only f32, f16 and bf16 are supported", dtype.name())));
    }
    let dtype = request.dtype.unwrap_or(Dtype::F32);
    let loaded = folder::load_adapted(&request.model.model, adapter, &LoadOptions::default())?;
    let spec = loaded.transformer.adapter().cloned().unwrap_or_default();
    if !spec.whole.is_empty() {
        return Err(refused("fully trained modules or biases"));
    }
    if spec.modules.values().any(|module| module.dora) {
        return Err(refused("magnitudes (DoRA)"));
    }
    let architecture = said::architecture(&loaded.config)?;
    let alpha = alpha(&spec);
    let parameters = loaded.transformer.parameters();
    let mut written: Vec<(String, QTensor)> = Vec::new();
    let mut n_changed = 0;
    for target in gguf::targets(architecture, &loaded.config) {
        if (request.stop)() {
            return Err(Error::Stopped);
        }
        let Some((module, n)) = tensors::changed(&target, &spec) else { continue };
        n_changed += n;
        let (a, b) = tensors::low_rank(&target, module, parameters)?;
        let factor = module.scale() * module.rank as f64 / alpha;
        let b = if factor == 1.0 { b } else { b.affine(factor, 0.0)? };
        written.push((format!("{}.lora_a", target.name), stored(&target.name, &a, dtype)?));
        written.push((format!("{}.lora_b", target.name), stored(&target.name, &b, dtype)?));
    }
    if n_changed != spec.modules.len() {
        return Err(refused(
            "a change of a module that llama.cpp's file of this model doesn't store separately",
        ));
    }
    let text = |value: &str| gguf_file::Value::String(value.to_owned());
    let keys = [
        (gguf::keys::ARCHITECTURE, text(architecture.name)),
        (gguf::keys::TYPE, text("adapter")),
        ("adapter.type", text("lora")),
        ("general.name", text(&request.name)),
        ("adapter.lora.alpha", gguf_file::Value::F32(alpha as f32)),
        ("general.quantization_version", gguf_file::Value::U32(2)),
    ];
    let keys: Keys = keys.map(|(key, value)| (key.to_owned(), value)).into();
    file::write(request, (architecture.name, dtype), (&keys, &written), loaded.warnings)
}

/// The alpha that most modules are scaled by, over their rank.
fn alpha(spec: &AdapterSpec) -> f64 {
    let of = |module: &ModuleSpec| module.scale() * module.rank as f64;
    let count = |alpha: f64| spec.modules.values().filter(|module| of(module) == alpha).count();
    let all = spec.modules.values().map(of);
    all.reduce(|best, alpha| if count(alpha) > count(best) { alpha } else { best }).unwrap_or(1.0)
}

fn stored(name: &str, tensor: &Tensor, dtype: Dtype) -> Result<QTensor> {
    tensors::check_range(name, tensor, dtype)?;
    let ggml = if dtype == Dtype::F32 { GgmlDType::F32 } else { dtype.ggml() };
    Ok(QTensor::quantize(&tensor.contiguous()?, ggml)?)
}
