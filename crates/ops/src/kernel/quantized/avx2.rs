//! Block products with AVX2 and FMA: eight rows of the matrix per register, pairs of products in 16 bits.
//!
//! The instruction that multiplies bytes takes the first factor unsigned, and saturates a sum of two products at 16
//! bits. [`Quant::Q8_0`] gives it the size of the matrix's value and moves the sign to the vector's: at most 128 · 127
//! · 2. [`Quant::Q4_0`]'s values are at most 15, so that all eight sums of a block fit into 16 bits: 8 · 15 · 127 · 2.
#![allow(unsafe_code)]

use super::format::Quant;
use super::panels::{PANEL, PanelRef};
use super::rounded::{PER_BLOCK, WORDS};
use super::target::Target;
use crate::kernel::tiles::{AHEAD, Tile};
use std::arch::x86_64::*;

/// Rows of the matrix per register.
const LANES: usize = 8;

/// The products of a panel and a tile.
///
/// # Safety
/// The processor has AVX2, FMA and F16C; the caller guarantees the target's elements.
pub(super) unsafe fn tile(quant: Quant, panel: PanelRef<'_>, x: &Tile, target: Target) {
    // SAFETY: guaranteed by the caller; tiles have a height of 1, 2 or a multiple of 4.
    unsafe {
        match (quant, x.height) {
            (Quant::Q8_0, 1) => run::<1, 2, false>(panel, x, (0, 0), target),
            (Quant::Q8_0, 2) => run::<2, 2, false>(panel, x, (0, 0), target),
            (Quant::Q4_0, 1) => run::<1, 2, true>(panel, x, (0, 0), target),
            (Quant::Q4_0, 2) => run::<2, 2, true>(panel, x, (0, 0), target),
            _ => {
                for at in (0..x.height).step_by(4).flat_map(|row| [(row, 0), (row, LANES)]) {
                    match quant {
                        Quant::Q8_0 => run::<4, 1, false>(panel, x, at, target),
                        Quant::Q4_0 => run::<4, 1, true>(panel, x, at, target),
                    }
                }
            }
        }
    }
}

/// `R` vectors from `row` on, with `V` registers of the panel's columns from `column` on.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<const R: usize, const V: usize, const HALVES: bool>(
    panel: PanelRef<'_>,
    x: &Tile,
    (row, column): (usize, usize),
    target: Target,
) {
    let n_block = panel.scales.len() / PANEL;
    let groups = match (HALVES, R) {
        (true, _) => WORDS / 2,
        (false, 1) => WORDS,
        // The compiler would unroll the eight groups, and move most of their registers to memory and back.
        (false, _) => std::hint::black_box(WORDS),
    };
    assert!(
        row + R <= x.height && x.words.len() >= n_block * PER_BLOCK * x.height,
        "a tile of complete blocks"
    );
    // SAFETY: panel and tile have `n_block` complete blocks; a prefetch may point anywhere; the caller guarantees the
    // target.
    unsafe {
        let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut result = [[_mm256_setzero_ps(); R]; V];
        for block in 0..n_block {
            let words = x.words.as_ptr().add(block * PER_BLOCK * x.height + row).cast::<i32>();
            let at = panel.packed.as_ptr().add((block * groups * PANEL + column) * 4);
            if V > 1 {
                let scales = panel.scales.as_ptr().add(block * PANEL);
                _mm_prefetch::<_MM_HINT_T1>(scales.wrapping_byte_add(AHEAD).cast());
            }
            let mut sums = [[_mm256_setzero_si256(); R]; V];
            for group in 0..groups {
                let at = at.add(group * PANEL * 4);
                if V > 1 {
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD).cast());
                }
                let first: [i32; R] = std::array::from_fn(|r| *words.add(group * x.height + r));
                if HALVES {
                    let second: [i32; R] =
                        std::array::from_fn(|r| *words.add((group + WORDS / 2) * x.height + r));
                    for (v, sums) in sums.iter_mut().enumerate() {
                        let both = _mm256_loadu_si256(at.add(32 * v).cast());
                        let a = _mm256_and_si256(both, low);
                        let b = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low);
                        for (sum, (first, second)) in sums.iter_mut().zip(first.into_iter().zip(second)) {
                            let of_a = _mm256_maddubs_epi16(a, _mm256_set1_epi32(first));
                            let of_b = _mm256_maddubs_epi16(b, _mm256_set1_epi32(second));
                            *sum = _mm256_add_epi16(*sum, _mm256_add_epi16(of_a, of_b));
                        }
                    }
                } else {
                    for (v, sums) in sums.iter_mut().enumerate() {
                        let numbers = _mm256_loadu_si256(at.add(32 * v).cast());
                        // Without the offset that makes them nonnegative.
                        let numbers = _mm256_xor_si256(numbers, _mm256_set1_epi8(i8::MIN));
                        let size = _mm256_abs_epi8(numbers);
                        for (sum, word) in sums.iter_mut().zip(first) {
                            let signed = _mm256_sign_epi8(_mm256_set1_epi32(word), numbers);
                            let pairs = _mm256_maddubs_epi16(size, signed);
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                        }
                    }
                }
            }
            for (v, (sums, result)) in sums.iter().zip(&mut result).enumerate() {
                let scales = panel.scales.as_ptr().add(block * PANEL + column + v * LANES);
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(scales.cast()));
                for (r, (sum, result)) in sums.iter().zip(result).enumerate() {
                    let sum = if HALVES {
                        let offset = _mm256_set1_epi32(*words.add((WORDS + 1) * x.height + r));
                        _mm256_add_epi32(_mm256_madd_epi16(*sum, ones), offset)
                    } else {
                        *sum
                    };
                    let of_x = f32::from_bits((*words.add(WORDS * x.height + r)).cast_unsigned());
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(of_x));
                    *result = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, *result);
                }
            }
        }
        for r in 0..R {
            let mut all = [0.0; PANEL];
            for (v, result) in result.iter().enumerate() {
                _mm256_storeu_ps(all.as_mut_ptr().add(v * LANES), result[r]);
            }
            let out = target.out.add((row + r) * target.stride + column.min(target.columns));
            let columns = target.columns.saturating_sub(column).min(V * LANES);
            std::ptr::copy_nonoverlapping(all.as_ptr(), out, columns);
        }
    }
}
