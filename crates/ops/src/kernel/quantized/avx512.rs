//! Block products with AVX-512 and VNNI: 16 rows of the matrix per register.
#![allow(unsafe_code)]

use super::format::Quant;
use super::panels::{PANEL, PanelRef};
use super::rounded::{PER_BLOCK, WORDS};
use super::target::Target;
use crate::kernel::tiles::{AHEAD, TALLEST, Tile};
use std::arch::x86_64::*;

/// The products of a panel and a tile.
///
/// # Safety
/// The processor has AVX-512 (F, BW, DQ, VL) and VNNI; the caller guarantees the target's elements.
pub(super) unsafe fn tile(quant: Quant, panel: PanelRef<'_>, x: &Tile, target: Target) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match (quant, x.height) {
            (Quant::Q8_0, 1) => run::<1, false>(panel, x, target),
            (Quant::Q8_0, 2) => run::<2, false>(panel, x, target),
            (Quant::Q8_0, 4) => run::<4, false>(panel, x, target),
            (Quant::Q8_0, 8) => run::<8, false>(panel, x, target),
            (Quant::Q8_0, _) => run::<TALLEST, false>(panel, x, target),
            (Quant::Q4_0, 1) => run::<1, true>(panel, x, target),
            (Quant::Q4_0, 2) => run::<2, true>(panel, x, target),
            (Quant::Q4_0, 4) => run::<4, true>(panel, x, target),
            (Quant::Q4_0, 8) => run::<8, true>(panel, x, target),
            (Quant::Q4_0, _) => run::<TALLEST, true>(panel, x, target),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
unsafe fn run<const R: usize, const HALVES: bool>(panel: PanelRef<'_>, x: &Tile, target: Target) {
    assert_eq!(x.height, R, "a tile of the requested height");
    // SAFETY: panel and tile have `n_block` complete blocks; a prefetch may point anywhere; the caller guarantees the
    // target.
    unsafe {
        let mut at = panel.packed.as_ptr();
        let mut scales = panel.scales.as_ptr();
        let n_block = panel.scales.len() / PANEL;
        let mut words = x.words.as_ptr().cast::<i32>();
        let low = _mm512_set1_epi8(15);
        let mut result = [_mm512_setzero_ps(); R];
        for _ in 0..n_block {
            if R <= 8 {
                _mm_prefetch::<_MM_HINT_T1>(scales.wrapping_byte_add(AHEAD).cast());
            }
            let mut sums = [_mm512_setzero_si512(); R];
            for (r, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_set1_epi32(*words.add((WORDS + 1) * R + r));
            }
            if HALVES {
                for group in 0..WORDS / 2 {
                    if R <= 8 {
                        _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD + 64 * group).cast());
                    }
                    let both = _mm512_loadu_si512(at.add(64 * group).cast());
                    let first = _mm512_and_si512(both, low);
                    let second = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low);
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(*words.add(group * R + r));
                        *sum = _mm512_dpbusd_epi32(*sum, first, x);
                    }
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(*words.add((group + WORDS / 2) * R + r));
                        *sum = _mm512_dpbusd_epi32(*sum, second, x);
                    }
                }
                at = at.add(32 * WORDS);
            } else {
                for group in 0..WORDS {
                    if R <= 8 {
                        _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD + 64 * group).cast());
                    }
                    let numbers = _mm512_loadu_si512(at.add(64 * group).cast());
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let x = _mm512_set1_epi32(*words.add(group * R + r));
                        *sum = _mm512_dpbusd_epi32(*sum, numbers, x);
                    }
                }
                at = at.add(64 * WORDS);
            }
            let scale = _mm512_cvtph_ps(_mm256_loadu_si256(scales.cast()));
            for (r, (sum, result)) in sums.iter().zip(&mut result).enumerate() {
                let of_x = _mm512_set1_ps(f32::from_bits((*words.add(WORDS * R + r)).cast_unsigned()));
                *result = _mm512_fmadd_ps(_mm512_cvtepi32_ps(*sum), _mm512_mul_ps(scale, of_x), *result);
            }
            scales = scales.add(PANEL);
            words = words.add(PER_BLOCK * R);
        }
        let mask = if target.columns >= PANEL { u16::MAX } else { (1 << target.columns) - 1 };
        for (r, result) in result.iter().enumerate() {
            _mm512_mask_storeu_ps(target.out.add(r * target.stride), mask, *result);
        }
    }
}
