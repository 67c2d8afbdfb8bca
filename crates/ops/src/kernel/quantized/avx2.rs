//! Block products with AVX2 and FMA: eight rows of the matrix per register, pairs of products in 16 bits.
#![allow(unsafe_code)]

use super::format::Quant;
use super::panels::{PANEL, PanelRef};
use super::rounded::{PER_BLOCK, WORDS};
use super::target::Target;
use crate::kernel::tiles::Tile;
use half::f16;
use std::arch::x86_64::*;

/// The products of a panel and a tile.
///
/// # Safety
/// The processor has AVX2 and FMA; the caller guarantees the target's elements.
pub(super) unsafe fn tile(quant: Quant, panel: PanelRef<'_>, x: &Tile, target: Target) {
    // SAFETY: guaranteed by the caller; tiles have a height of 1, 2 or a multiple of 4.
    unsafe {
        for row in (0..x.height).step_by(4) {
            match (quant, x.height) {
                (Quant::Q8_0, 1) => run::<1, false>(panel, x, row, target),
                (Quant::Q8_0, 2) => run::<2, false>(panel, x, row, target),
                (Quant::Q8_0, _) => run::<4, false>(panel, x, row, target),
                (Quant::Q4_0, 1) => run::<1, true>(panel, x, row, target),
                (Quant::Q4_0, 2) => run::<2, true>(panel, x, row, target),
                (Quant::Q4_0, _) => run::<4, true>(panel, x, row, target),
            }
        }
    }
}

/// The vectors from `row` on, both halves of the panel one after the other.
#[target_feature(enable = "avx2,fma")]
unsafe fn run<const R: usize, const HALVES: bool>(panel: PanelRef<'_>, x: &Tile, row: usize, target: Target) {
    let n_block = panel.scales.len() / PANEL;
    let groups = if HALVES { WORDS / 2 } else { WORDS };
    assert!(
        row + R <= x.height && x.words.len() >= n_block * PER_BLOCK * x.height,
        "a tile of complete blocks"
    );
    // SAFETY: panel and tile have `n_block` complete blocks; the caller guarantees the target.
    unsafe {
        let low = _mm256_set1_epi8(15);
        for half in [0, PANEL / 2] {
            let mut result = [_mm256_setzero_ps(); R];
            for block in 0..n_block {
                let words = x.words.as_ptr().add(block * PER_BLOCK * x.height + row).cast::<i32>();
                let at = panel.packed.as_ptr().add((block * groups * PANEL + half) * 4);
                let mut sums = [_mm256_setzero_si256(); R];
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_set1_epi32(*words.add((WORDS + 1) * x.height + r));
                }
                for group in 0..groups {
                    let numbers = _mm256_loadu_si256(at.add(group * PANEL * 4).cast());
                    let parts = if HALVES {
                        let second = _mm256_and_si256(_mm256_srli_epi16::<4>(numbers), low);
                        [_mm256_and_si256(numbers, low), second]
                    } else {
                        [numbers, numbers]
                    };
                    for (part, numbers) in parts.into_iter().enumerate().take(if HALVES { 2 } else { 1 }) {
                        let even = _mm256_and_si256(numbers, _mm256_set1_epi16(0xff));
                        let odd = _mm256_srli_epi16::<8>(numbers);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let word = group + part * WORDS / 2;
                            let x = _mm256_set1_epi32(*words.add(word * x.height + r));
                            let of_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                            let of_odd = _mm256_srai_epi16::<8>(x);
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(even, of_even));
                            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(odd, of_odd));
                        }
                    }
                }
                let scales = &panel.scales[block * PANEL + half..][..PANEL / 2];
                let mut wide = [0.0; PANEL / 2];
                for (wide, scale) in wide.iter_mut().zip(scales) {
                    *wide = f16::from_bits(*scale).to_f32();
                }
                let scale = _mm256_loadu_ps(wide.as_ptr());
                for (r, (sum, result)) in sums.iter().zip(&mut result).enumerate() {
                    let of_x = f32::from_bits((*words.add(WORDS * x.height + r)).cast_unsigned());
                    let scale = _mm256_mul_ps(scale, _mm256_set1_ps(of_x));
                    *result = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*sum), scale, *result);
                }
            }
            let columns = target.columns.saturating_sub(half).min(PANEL / 2);
            for (r, result) in result.iter().enumerate() {
                let mut all = [0.0; PANEL / 2];
                _mm256_storeu_ps(all.as_mut_ptr(), *result);
                let out = target.out.add((row + r) * target.stride + half.min(target.columns));
                std::ptr::copy_nonoverlapping(all.as_ptr(), out, columns);
            }
        }
    }
}
