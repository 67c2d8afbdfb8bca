//! A model's parameters with llama.cpp's names, order and dtypes.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, Tensor};
use vulpes_model::Parameters;
use vulpes_model::adapter::{AdapterSpec, ModuleSpec};
use vulpes_model::gguf::{Change, Target};

use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// The values of a tensor of the file in float32.
///
/// # Errors
/// None known: the parameters are the config's.
pub(super) fn tensor(target: &Target, parameters: &Parameters) -> Result<Tensor> {
    let part = |(name, change): &(String, Change)| -> Result<Tensor> {
        let tensor = parameters.get(name).map_err(vulpes_model::folder::Error::from)?.as_tensor().detach();
        Ok(match change {
            Change::None => tensor,
            Change::SideBySide(n_head) => side_by_side(&tensor, *n_head)?,
            Change::PlusOne => (tensor + 1.0)?,
            // (candle quantizes an entire storage, whichever part of it a tensor is a view of.)
            Change::Without(n) => tensor.narrow(0, *n, tensor.dim(0)? - n)?.force_contiguous()?,
        })
    };
    let parts = target.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
    Ok(match parts.as_slice() {
        [one] => one.clone(),
        many => Tensor::cat(many, 0)?,
    })
}
/// The low-rank change of an adapter that is a tensor's, and how many of our modules it is of; `None` where there is
/// none.
pub(super) fn changed<'s>(target: &Target, adapter: &'s AdapterSpec) -> Option<(&'s ModuleSpec, usize)> {
    let module = |name: &str| adapter.modules.get(name.strip_suffix(".weight")?);
    let of_table = |name: &str| name == "embedding.token.weight";
    let found = target.parts.iter().filter(|(name, _)| !of_table(name)).filter_map(|(name, _)| module(name));
    let found: Vec<&ModuleSpec> = found.collect();
    found.first().map(|first| (*first, found.len()))
}

/// A and B of that change, with B's rows in the tensor's order.
///
/// # Errors
/// None known: the parameters are the config's.
pub(super) fn low_rank(
    target: &Target,
    module: &ModuleSpec,
    parameters: &Parameters,
) -> Result<(Tensor, Tensor)> {
    let get = |name: &str| -> Result<Tensor> {
        let found = parameters.get(name).map_err(vulpes_model::folder::Error::from)?;
        Ok(found.as_detached_tensor())
    };
    let part = |(name, change): &(String, Change)| -> Result<Tensor> {
        let b = get(&ModuleSpec::b(name.strip_suffix(".weight").unwrap_or(name)))?;
        match change {
            Change::SideBySide(n_head) => side_by_side(&b, *n_head),
            Change::None | Change::PlusOne | Change::Without(_) => Ok(b),
        }
    };
    let parts = target.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
    Ok((get(&module.a())?, Tensor::cat(&parts, 0)?))
}

/// Rows of queries or keys reordered for a rotation of adjacent channels: channels i and i + k/2 of each head, which
/// transformers rotates together, become 2i and 2i + 1.
fn side_by_side(tensor: &Tensor, n_head: usize) -> Result<Tensor> {
    let n_rows = tensor.dim(0)?;
    let rest = tensor.elem_count() / n_rows.max(1);
    let halves = tensor.reshape((n_head, 2, n_rows / n_head / 2, rest))?;
    Ok(halves.transpose(1, 2)?.contiguous()?.reshape(tensor.shape())?)
}

/// A tensor in its stored dtype, and whether that is float16 because its rows can't be split into blocks.
///
/// As in llama.cpp's converter, vectors, norms, positions and token types stay float32.
///
/// # Errors
/// [`Error::Range`].
pub(super) fn stored(name: &str, tensor: &Tensor, dtype: Dtype) -> Result<(QTensor, bool)> {
    let is_small = tensor.rank() < 2
        || name.ends_with("_norm.weight")
        || name.starts_with("position_embd.")
        || name.starts_with("token_types.");
    if is_small || dtype == Dtype::F32 {
        return Ok((QTensor::quantize(tensor, GgmlDType::F32)?, false));
    }
    let falls_back = !tensor.dim(D::Minus1)?.is_multiple_of(dtype.ggml().block_size());
    let dtype = if falls_back { Dtype::F16 } else { dtype };
    check_range(name, tensor, dtype)?;
    Ok((QTensor::quantize(tensor, dtype.ggml())?, falls_back))
}

/// Checks that every value of a tensor stays finite in a dtype.
///
/// # Errors
/// [`Error::Range`] with the first that doesn't, or isn't finite to begin with.
pub(crate) fn check_range(name: &str, tensor: &Tensor, dtype: Dtype) -> Result<()> {
    let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
    match numbers.iter().find(|number| number.is_nan() || number.abs() > dtype.largest()) {
        Some(&value) => Err(Error::Range { tensor: name.to_owned(), value, dtype }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use safetensors::SafeTensors;

    use super::*;

    /// An empty block, ties, values that underflow in half precision, an outlier and the largest values: bytes as
    /// written by the `gguf` package of llama.cpp.
    #[test]
    fn blocks_equal_llama_cpps_byte_for_byte() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gguf/quants.safetensors");
        let file = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&file).unwrap();
        let floats: Vec<f32> = {
            let bytes = file.tensor("values").unwrap().data();
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let values = Tensor::from_vec(floats, (12, 64), &Device::Cpu).unwrap();
        for dtype in [Dtype::Q8_0, Dtype::Q4_0, Dtype::F16, Dtype::Bf16] {
            let (stored, fell_back) = stored("blk.0.ffn_up.weight", &values, dtype).unwrap();
            assert!(!fell_back);
            let wanted = file.tensor(&format!("{}.bytes", dtype.name())).unwrap();
            assert!(stored.data().unwrap() == wanted.data(), "{}", dtype.name());
        }
    }

    #[test]
    fn values_beyond_the_dtype_are_reported() {
        let row = |value: f32| Tensor::from_vec(vec![value; 32], (1, 32), &Device::Cpu).unwrap();
        for (dtype, inside, beyond) in [
            (Dtype::F16, 65504.0, 7e4),
            (Dtype::Q8_0, 8e6, 9e6),
            (Dtype::Q4_0, 5e5, 6e5),
            (Dtype::Bf16, 3e38, f32::MAX),
        ] {
            assert!(stored("a.weight", &row(inside), dtype).is_ok());
            let error = stored("a.weight", &row(beyond), dtype).unwrap_err().to_string();
            assert!(error.starts_with("a.weight holds ") && error.contains(dtype.name()), "{error}");
            assert!(stored("a.weight", &row(f32::NAN), dtype).is_err());
        }
        assert!(stored("a.weight", &row(f32::MAX), Dtype::F32).is_ok());
    }

    #[test]
    fn small_tensors_stay_float32_and_rows_without_blocks_become_float16() {
        let of = |name: &str, shape: &[usize]| {
            let tensor = Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
            let (stored, fell_back) = stored(name, &tensor, Dtype::Q8_0).unwrap();
            (stored.dtype(), fell_back)
        };
        for name in ["position_embd.weight", "token_types.weight", "blk.0.attn_q_norm.weight"] {
            assert_eq!(of(name, &[4, 64]), (GgmlDType::F32, false), "{name}");
        }
        assert_eq!(of("blk.0.attn_q.bias", &[64]), (GgmlDType::F32, false));
        assert_eq!(of("blk.0.ffn_down.weight", &[4, 64]), (GgmlDType::Q8_0, false));
        assert_eq!(of("blk.0.ffn_down.weight", &[4, 48]), (GgmlDType::F16, true));
    }
}
