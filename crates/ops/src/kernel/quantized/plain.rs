//! Block products in portable code.
#![allow(unsafe_code)]

use super::format::{BLOCK, Quant};
use super::panels::{PANEL, PanelRef};
use super::rounded::{PER_BLOCK, WORDS};
use super::target::Target;
use crate::kernel::Float;
use crate::kernel::tiles::Tile;
use half::f16;

/// The products of a panel and a tile; `FMA` as for [`Float::fma`].
///
/// # Safety
/// The caller guarantees the target's elements.
pub(super) unsafe fn tile<const FMA: bool>(quant: Quant, panel: PanelRef<'_>, x: &Tile, target: Target) {
    let block_bytes = PANEL * quant.n_packed();
    for r in 0..x.height {
        let mut result = [0.0f32; PANEL];
        let blocks = panel.packed.chunks_exact(block_bytes).zip(panel.scales.as_chunks::<PANEL>().0);
        for ((packed, scales), words) in blocks.zip(x.words.chunks_exact(PER_BLOCK * x.height)) {
            let numbers: [[i8; 4]; WORDS] =
                std::array::from_fn(|word| words[word * x.height + r].to_le_bytes().map(u8::cast_signed));
            let numbers: &[i8] = numbers.as_flattened();
            let of_x = f32::from_bits(words[WORDS * x.height + r]);
            for (lane, result) in result.iter_mut().enumerate() {
                let mut sum = words[(WORDS + 1) * x.height + r].cast_signed();
                for (i, number) in numbers.iter().enumerate().take(BLOCK) {
                    let byte = |i: usize| packed[(i / 4 * PANEL + lane) * 4 + i % 4];
                    let whole = match quant {
                        Quant::Q8_0 => byte(i),
                        Quant::Q4_0 if i < BLOCK / 2 => byte(i) & 15,
                        Quant::Q4_0 => byte(i - BLOCK / 2) >> 4,
                    };
                    sum += i32::from(whole) * i32::from(*number);
                }
                *result = (sum as f32).fma::<FMA>(f16::from_bits(scales[lane]).to_f32() * of_x, *result);
            }
        }
        // SAFETY: the caller guarantees the target's columns of this row.
        unsafe {
            let out = target.out.add(r * target.stride);
            std::ptr::copy_nonoverlapping(result.as_ptr(), out, target.columns.min(PANEL));
        }
    }
}
