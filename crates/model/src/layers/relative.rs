//! Relative position biases: learned biases on the scores for ranges of distances.

use candle_core::{Device, Result, Tensor};
use vulpes_ops as ops;

use crate::config::N_BUCKET;

/// All distances from here on share one range.
const MAX_DISTANCE: f32 = 128.0;

/// The range of the distance from a query to a key: exact ones up to 7, then increasingly wide ones
/// ([Raffel et al. 2020](https://arxiv.org/abs/1910.10683), sec. 2.1; rounded as in transformers' MPNet).
fn bucket(query: usize, key: usize) -> u32 {
    let half = N_BUCKET / 2;
    let exact = half / 2;
    let first = if key > query { half } else { 0 };
    let distance = query.abs_diff(key);
    if distance < exact {
        return (first + distance) as u32;
    }
    let share = (distance as f32 / exact as f32).ln() / (MAX_DISTANCE / exact as f32).ln();
    let wide = exact + (share * (half - exact) as f32) as usize;
    (first + wide.min(half - 1)) as u32
}

/// The bias of each score, looked up in its table.
///
/// # Shape
/// table `[rows, h]` to `[h, t, s]`, where the first query is at key `past`.
///
/// # Gradient
/// For the table.
pub(crate) fn biases(table: &Tensor, t: usize, s: usize, past: usize) -> Result<Tensor> {
    let ids: Vec<u32> = (0..t).flat_map(|query| (0..s).map(move |key| bucket(past + query, key))).collect();
    let ids = Tensor::from_vec(ids, (t, s), &Device::Cpu)?.to_device(table.device())?;
    ops::embedding(&ids, table)?.permute((2, 0, 1))?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distances_have_exact_ranges_and_far_ones_share_them() {
        let at = |offset: i64| bucket(500, (500 + offset) as usize);
        assert_eq!((at(0), at(-1), at(-7), at(-8)), (0, 1, 7, 8));
        assert_eq!((at(1), at(7), at(8)), (17, 23, 24));
        assert_eq!((at(-11), at(-12), at(-16), at(-90), at(-91), at(-400)), (8, 9, 10, 14, 15, 15));
        assert_eq!(at(400), 31);
    }
}
