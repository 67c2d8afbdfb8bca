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
pub(super) fn join<T: Copy + Default>(stored: &Stored, mut parts: Vec<Vec<T>>) -> Vec<T> {
    if !stored.transposed {
        if parts.len() == 1 {
            return parts.remove(0);
        }
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

/// The bytes of a stored tensor, from its parameters.
pub(super) fn bytes(stored: &Stored, parameters: &[&Tensor]) -> Result<Vec<u8>, Error> {
    fn joined<T: candle_core::WithDType + Default>(
        stored: &Stored,
        parameters: &[&Tensor],
    ) -> Result<Vec<T>, Error> {
        let parts: Result<Vec<Vec<T>>, Error> =
            parameters.iter().map(|tensor| Ok(tensor.flatten_all()?.to_vec1::<T>()?)).collect();
        Ok(join(stored, parts?))
    }
    match parameters.first().map(|tensor| tensor.dtype()) {
        Some(DType::BF16) => {
            Ok(joined::<bf16>(stored, parameters)?.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        Some(DType::F16) => {
            Ok(joined::<f16>(stored, parameters)?.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        Some(DType::F32) => {
            Ok(joined::<f32>(stored, parameters)?.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        _ => Ok(joined::<f64>(stored, parameters)?.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect()),
    }
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
        assert_eq!(join(&stored, cut_up), floats);
    }

    #[test]
    fn parts_that_alternate_from_head_to_head_round_trip() {
        let parts = ["q", "k", "v"].map(|name| (name.to_string(), vec![2, 1])).to_vec();
        let stored = Stored { name: "qkv".into(), shape: vec![6, 1], parts, transposed: false, n_piece: 2 };
        // Head 0's query, key and value, then head 1's.
        let floats = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let apart = cut(&stored, floats.clone());
        assert_eq!(apart, [vec![1.0, 4.0], vec![2.0, 5.0], vec![3.0, 6.0]]);
        assert_eq!(join(&stored, apart), floats);
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
        assert_eq!(join(&stored, transposed), floats);
    }
}
