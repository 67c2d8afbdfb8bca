//! Weights encoded as text for a page: float32 unchanged, or 8 bits with a scale per row.

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use vulpes_model::{Transformer, parameter_specs};

use crate::pack::{base64, floats};

/// Up to this many bytes of float32 are stored unchanged.
const EXACT: usize = 1_000_000;

/// The parameters of a model.
pub(super) struct Packed {
    /// Whether they are the model's own float32 values.
    pub(super) is_exact: bool,
    /// Name, shape and number of bits of each, in the order of their numbers.
    pub(super) leaves: Vec<Value>,
    /// All float32 values, one after the other: parameters, and for those in 8 bits the scales of their rows.
    pub(super) floats: String,
    /// All rows in 8 bits, one after the other.
    pub(super) bytes: String,
}

/// Packs every parameter, in forward order.
///
/// A row of a matrix too large for float32 is stored as `round(w / s)` with `s = max |w| / 127`; norms and biases
/// stay float32.
pub(super) fn packed(model: &Transformer) -> candle_core::Result<Packed> {
    let leaves = model.layers().leaves();
    let n: usize = leaves.iter().map(|leaf| leaf.elem_count()).sum();
    let is_exact = 4 * n <= EXACT;
    let (mut described, mut exact, mut rounded) = (Vec::new(), Vec::new(), Vec::new());
    for (leaf, spec) in leaves.iter().zip(parameter_specs(model.config())) {
        let numbers = numbers(leaf)?;
        let bits = if is_exact || leaf.rank() < 2 { 32 } else { 8 };
        described.push(json!({ "name": spec.name, "shape": leaf.dims(), "bits": bits }));
        match (bits, leaf.dims()) {
            (8, [.., width]) => {
                for row in numbers.chunks((*width).max(1)) {
                    let (scale, bytes) = eight_bits(row);
                    exact.push(scale);
                    rounded.extend(bytes);
                }
            }
            _ => exact.extend(numbers),
        }
    }
    Ok(Packed { is_exact, leaves: described, floats: floats(&exact), bytes: base64(&rounded) })
}

fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}

/// A row's scale, and its values in units of it.
fn eight_bits(row: &[f32]) -> (f32, Vec<u8>) {
    let scale = row.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
    let unit = |x: &f32| if scale > 0.0 { (x / scale).round() } else { 0.0 };
    (scale, row.iter().map(|x| (unit(x) as i8) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_error_is_at_most_half_a_unit() {
        let row = [0.5f32, -1.27, 0.0, 1e-9, 0.013];
        let (scale, bytes) = eight_bits(&row);
        for (x, byte) in row.iter().zip(bytes) {
            assert!((x - scale * f32::from(byte as i8)).abs() <= scale / 2.0 + 1e-9);
        }
        assert_eq!(eight_bits(&[0.0, 0.0]), (0.0, vec![0, 0]));
    }
}
