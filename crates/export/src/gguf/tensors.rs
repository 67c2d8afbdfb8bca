//! A model's parameters under llama.cpp's names, in its order and its types.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, Tensor};
use vulpes_model::config::{NormKind, Positions};
use vulpes_model::{Head, Kind, ModelConfig, Parameters, Part, Role, parameter_specs};

use super::architecture::{Architecture, HeadForm};
use super::head;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// Modules outside the blocks: ours, llama.cpp's.
const OUTSIDE: &[(&str, &str)] = &[
    ("embedding.token", "token_embd"),
    ("embedding.position", "position_embd"),
    ("embedding.token_type", "token_types"),
    ("embedding.norm", "token_embd_norm"),
    ("norm", "output_norm"),
    ("head", "output"),
];

/// Modules inside a block.
const INSIDE: &[(&str, &str)] = &[
    ("attention.norm", "attn_norm"),
    ("attention.query", "attn_q"),
    ("attention.key", "attn_k"),
    ("attention.value", "attn_v"),
    ("attention.output", "attn_output"),
    ("attention.query_norm", "attn_q_norm"),
    ("attention.key_norm", "attn_k_norm"),
    ("attention.branch_norm", "post_attention_norm"),
    ("feed_forward.norm", "ffn_norm"),
    ("feed_forward.gate", "ffn_gate"),
    ("feed_forward.up", "ffn_up"),
    ("feed_forward.down", "ffn_down"),
    ("feed_forward.branch_norm", "post_ffw_norm"),
];

/// What is done to the numbers of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// Nothing.
    None,
    /// Channels half a head apart come to stand side by side, in each of so many heads.
    SideBySide(usize),
    /// One is added.
    PlusOne,
    /// The first rows go.
    Without(usize),
}

/// One tensor of the file.
#[derive(Debug)]
pub(super) struct Target {
    /// Its name there.
    pub(super) name: String,
    /// Our parameters in it, one below the other.
    parts: Vec<(String, Change)>,
}

/// The tensors of a model's file.
pub(super) fn targets(architecture: &Architecture, config: &ModelConfig) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for spec in parameter_specs(config) {
        let Some(name) = named(architecture, config, &spec.name) else { continue };
        let part = (spec.name, change(architecture, config, &spec.role));
        match targets.iter_mut().rev().take(4).find(|target| target.name == name) {
            Some(joined) => joined.parts.push(part),
            None => targets.push(Target { name, parts: vec![part] }),
        }
    }
    let is_tied = config.tied_head && config.head == Head::NextToken;
    if is_tied && matches!(architecture.head, HeadForm::Next { own: true, .. }) {
        let parts = vec![("embedding.token.weight".to_owned(), Change::None)];
        targets.push(Target { name: "output.weight".into(), parts });
    }
    targets
}

/// llama.cpp's name of our parameter; `None` for what it has no place for.
fn named(architecture: &Architecture, config: &ModelConfig, ours: &str) -> Option<String> {
    let (module, last) = ours.rsplit_once('.')?;
    let find = |rows: &[(&str, &'static str)], wanted: &str| {
        rows.iter().find(|(ours, _)| *ours == wanted).map(|(_, theirs)| *theirs)
    };
    if let Some((layer, rest)) = module.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        let theirs = find(architecture.names, rest).or_else(|| find(INSIDE, rest))?;
        return Some(format!("blk.{layer}.{theirs}.{last}"));
    }
    let theirs = match architecture.head {
        HeadForm::Encoder if module == "head" || module.starts_with("head.") => head::named(config, module)?,
        _ => find(OUTSIDE, module)?,
    };
    Some(format!("{theirs}.{last}"))
}

fn change(architecture: &Architecture, config: &ModelConfig, role: &Role) -> Change {
    match role.part {
        Part::Query if architecture.turns_neighbors => Change::SideBySide(config.n_head),
        Part::Key if architecture.turns_neighbors => Change::SideBySide(config.n_kv_head),
        Part::Norm if config.norm == NormKind::RmsPlusOne && role.kind == Kind::Scale => Change::PlusOne,
        Part::Position if config.positions == Positions::Counted => {
            Change::Without(config.n_position() - config.context_len)
        }
        _ => Change::None,
    }
}

impl Target {
    /// Its numbers in float32.
    ///
    /// # Errors
    /// None that is known: the parameters are the config's.
    pub(super) fn tensor(&self, parameters: &Parameters) -> Result<Tensor> {
        let part = |(name, change): &(String, Change)| -> Result<Tensor> {
            let tensor =
                parameters.get(name).map_err(vulpes_model::folder::Error::from)?.as_tensor().detach();
            Ok(match change {
                Change::None => tensor,
                Change::SideBySide(n_head) => side_by_side(&tensor, *n_head)?,
                Change::PlusOne => (tensor + 1.0)?,
                // (candle quantises a whole storage, whichever part of it a tensor sees.)
                Change::Without(n) => tensor.narrow(0, *n, tensor.dim(0)? - n)?.force_contiguous()?,
            })
        };
        let parts = self.parts.iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(match parts.as_slice() {
            [one] => one.clone(),
            many => Tensor::cat(many, 0)?,
        })
    }
}

/// Rows of queries or keys in the order of a rotation of neighbors: of each head the channels i and i + k/2, which
/// transformers turns together, come to stand as 2i and 2i + 1.
fn side_by_side(tensor: &Tensor, n_head: usize) -> Result<Tensor> {
    let n_rows = tensor.dim(0)?;
    let rest = tensor.elem_count() / n_rows.max(1);
    let halves = tensor.reshape((n_head, 2, n_rows / n_head / 2, rest))?;
    Ok(halves.transpose(1, 2)?.contiguous()?.reshape(tensor.shape())?)
}

/// A tensor in the type that it is stored in, and whether that is float16 because its rows can't be cut into blocks.
///
/// As llama.cpp's converter has it, vectors, norms, positions and token types stay float32.
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

/// Whether every number of a tensor stays finite in a type.
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

    /// An empty block, ties, values that vanish in half precision, an outlier and the largest values: bytes as the `gguf`
    /// package of llama.cpp writes them.
    #[test]
    fn blocks_are_llama_cpps_to_the_byte() {
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
    fn what_a_type_cannot_hold_is_named() {
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
    fn small_tensors_stay_float32_and_rows_that_are_no_blocks_become_float16() {
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
