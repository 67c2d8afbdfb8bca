//! Between the values of a stored tensor and our parameters: joining, splitting and transposing matrices.

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use super::error::Error;
use crate::families::Stored;

/// Splits the values of a stored tensor into those of its parameters, each `[out, in]`.
pub(super) fn cut(stored: &Stored, floats: Vec<f32>) -> Vec<Vec<f32>> {
    if let ([_], false) = (stored.parts.as_slice(), stored.transposed) {
        return vec![floats];
    }
    if !stored.transposed {
        let sizes: Vec<usize> = stored.parts.iter().map(|(_, shape)| shape.iter().product()).collect();
        let mut rest = floats.as_slice();
        let mut parts: Vec<Vec<f32>> = sizes.iter().map(|size| Vec::with_capacity(*size)).collect();
        for _ in 0..stored.n_piece {
            for (part, size) in parts.iter_mut().zip(&sizes) {
                let (piece, after) = rest.split_at(size / stored.n_piece);
                part.extend_from_slice(piece);
                rest = after;
            }
        }
        return parts;
    }
    let (n_in, n_out) = (stored.shape[0], stored.shape[1]);
    let mut first = 0;
    let mut parts = Vec::with_capacity(stored.parts.len());
    for (_, shape) in &stored.parts {
        let mut part = vec![0.0; shape[0] * n_in];
        // part[o, i] = floats[i, first + o]
        turn((n_in, n_out, first, shape[0]), |from, to| part[to] = floats[from]);
        first += shape[0];
        parts.push(part);
    }
    parts
}

/// Joins the values of a stored tensor's parameters, the inverse of [`cut`].
pub(super) fn join<T: Copy + Default>(stored: &Stored, parts: &[Vec<T>]) -> Vec<T> {
    if !stored.transposed {
        let piece = |number: usize, part: &'_ Vec<T>| {
            let size = part.len() / stored.n_piece;
            part[number * size..(number + 1) * size].to_vec()
        };
        return (0..stored.n_piece).flat_map(|n| parts.iter().flat_map(move |part| piece(n, part))).collect();
    }
    let (n_in, n_out) = (stored.shape[0], stored.shape[1]);
    let mut joined = vec![T::default(); n_in * n_out];
    let mut first = 0;
    for (part, (_, shape)) in parts.iter().zip(&stored.parts) {
        turn((n_in, n_out, first, shape[0]), |from, to| joined[from] = part[to]);
        first += shape[0];
    }
    joined
}

/// Calls `pair(a, b)` for the indices a of columns `first..first + width` of an `[n_in, n_out]` matrix and the indices
/// b of the same values in a `[width, n_in]` matrix, tile by tile so that both stay in the cache.
fn turn((n_in, n_out, first, width): (usize, usize, usize, usize), mut pair: impl FnMut(usize, usize)) {
    const TILE: usize = 16;
    for i0 in (0..n_in).step_by(TILE) {
        for o0 in (0..width).step_by(TILE) {
            for i in i0..(i0 + TILE).min(n_in) {
                for o in o0..(o0 + TILE).min(width) {
                    pair(i * n_out + first + o, o * n_in + i);
                }
            }
        }
    }
}

/// The dtype in which a tensor is stored: its names in safetensors and in `config.json`, and its width in bytes.
///
/// float64 is stored as float32, the widest type that transformers' models are kept in.
pub(super) fn stored_dtype(dtype: DType) -> (&'static str, &'static str, usize) {
    match dtype {
        DType::BF16 => ("BF16", "bfloat16", 2),
        DType::F16 => ("F16", "float16", 2),
        _ => ("F32", "float32", 4),
    }
}

/// The number of values that are converted at a time.
const AT_ONCE: usize = 1 << 18;

/// Passes the bytes of a stored tensor to `out`, from its parameters, a part at a time: copies of a large table would
/// take more memory than a training step.
pub(super) fn each_bytes(
    stored: &Stored,
    parameters: &[&Tensor],
    out: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    match parameters.first().map(|tensor| tensor.dtype()) {
        Some(DType::BF16) => each_part(stored, parameters, |x: bf16| x.to_le_bytes(), out),
        Some(DType::F16) => each_part(stored, parameters, |x: f16| x.to_le_bytes(), out),
        Some(DType::F32) => each_part(stored, parameters, f32::to_le_bytes, out),
        _ => each_part(stored, parameters, |x: f64| (x as f32).to_le_bytes(), out),
    }
}

/// [`each_bytes`] of parameters of one type; only those that must be joined are copied as a whole.
fn each_part<T: candle_core::WithDType + Default, const WIDTH: usize>(
    stored: &Stored,
    parameters: &[&Tensor],
    bytes: impl Fn(T) -> [u8; WIDTH],
    out: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut pass = |values: &[T]| out(&values.iter().flat_map(|&x| bytes(x)).collect::<Vec<u8>>());
    if let ([whole], false) = (parameters, stored.transposed) {
        let flat = whole.flatten_all()?;
        let n = flat.elem_count();
        return (0..n)
            .step_by(AT_ONCE)
            .try_for_each(|first| pass(&flat.narrow(0, first, AT_ONCE.min(n - first))?.to_vec1::<T>()?));
    }
    let parts: Result<Vec<Vec<T>>, Error> =
        parameters.iter().map(|tensor| Ok(tensor.flatten_all()?.to_vec1::<T>()?)).collect();
    join(stored, &parts?).chunks(AT_ONCE).try_for_each(pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposed_and_joined_matrices_round_trip() {
        let parts = vec![("q".to_string(), vec![1, 2]), ("k".to_string(), vec![2, 2])];
        let stored = Stored { name: "c".into(), shape: vec![2, 3], parts, transposed: true, n_piece: 1 };
        // [in, out]: row 0 holds the weights of input 0 for outputs q0, k0, k1.
        let floats = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let cut_up = cut(&stored, floats.clone());
        assert_eq!(cut_up, [vec![1.0, 4.0], vec![2.0, 5.0, 3.0, 6.0]]);
        assert_eq!(join(&stored, &cut_up), floats);
    }

    #[test]
    fn parts_that_alternate_from_head_to_head_round_trip() {
        let parts = ["q", "k", "v"].map(|name| (name.to_string(), vec![2, 1])).to_vec();
        let stored = Stored { name: "qkv".into(), shape: vec![6, 1], parts, transposed: false, n_piece: 2 };
        // Head 0's query, key and value, then head 1's.
        let floats = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let apart = cut(&stored, floats.clone());
        assert_eq!(apart, [vec![1.0, 4.0], vec![2.0, 5.0], vec![3.0, 6.0]]);
        assert_eq!(join(&stored, &apart), floats);
    }

    #[test]
    fn bytes_are_those_of_all_values() {
        let (n_out, n_in) = (AT_ONCE / 300, 700);
        let values: Vec<f32> = (0..n_out * n_in).map(|x| x as f32).collect();
        let tensor = Tensor::from_vec(values.clone(), (n_out, n_in), &candle_core::Device::Cpu).unwrap();
        for transposed in [false, true] {
            let shape = if transposed { vec![n_in, n_out] } else { vec![n_out, n_in] };
            let parts = vec![("w".into(), vec![n_out, n_in])];
            let stored = Stored { name: "w".into(), shape, parts, transposed, n_piece: 1 };
            let mut bytes = Vec::new();
            let mut keep = |some: &[u8]| {
                bytes.extend_from_slice(some);
                Ok(())
            };
            each_bytes(&stored, &[&tensor], &mut keep).unwrap();
            let wanted = join(&stored, std::slice::from_ref(&values));
            assert!(bytes == wanted.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn tiles_cover_odd_sizes() {
        let stored = Stored {
            name: "c".into(),
            shape: vec![37, 53],
            parts: vec![("w".into(), vec![53, 37])],
            transposed: true,
            n_piece: 1,
        };
        let floats: Vec<f32> = (0..37 * 53).map(|x| x as f32).collect();
        let transposed = cut(&stored, floats.clone());
        assert_eq!(transposed[0][5 * 37 + 9], floats[9 * 53 + 5]);
        assert_eq!(join(&stored, &transposed), floats);
    }
}
