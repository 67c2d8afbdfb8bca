//! Matrices of small integers in blocks of 32, and their products with vectors rounded in the same way.
//!
//! A block stores 32 values of a row as integers and one scale ([`Quant`]). A vector's blocks are rounded to 8 bits
//! ([`Rounded`]). The product of two blocks is exact in int32; the blocks of a row are added in order:
//!
//! ```text
//! y = fma(f32(Σ w₃₂ x₃₂), scale_w · scale_x, … fma(f32(Σ w₀ x₀), scale_w · scale_x, 0) …)
//! ```
//!
//! so every processor, and every number of vectors at a time, yields the same bits.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod format;
mod panels;
mod plain;
mod rounded;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use format::{BLOCK, Quant};
pub(crate) use panels::{PANEL, Panels, panel_bytes, place};
pub(crate) use rounded::Rounded;

use super::tiles::Tile;
use crate::kernel::simd::{Level, PORTABLE_FMA, level};
use panels::PanelRef;
use target::Target;

/// Computes the products of one panel of a matrix and the vectors of one tile.
type Kernel = unsafe fn(Quant, PanelRef<'_>, &Tile, Target);

/// The kernel for this processor.
fn kernel() -> Kernel {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if is_x86_feature_detected!("avx512vnni") => avx512::tile,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx2 if is_x86_feature_detected!("f16c") => avx2::tile,
        _ => plain::tile::<PORTABLE_FMA>,
    }
}

/// Columns `panels · PANEL` of `x Wᵀ` for all vectors of `x`, into rows that start `stride` elements apart.
///
/// # Safety
/// The elements of the matrix's columns in that range must be valid in each row of `out`, and not aliased.
pub(crate) unsafe fn multiply(
    matrix: &Panels,
    x: &Rounded,
    panels: std::ops::Range<usize>,
    out: *mut f32,
    stride: usize,
) {
    assert!(x.n_block == matrix.n_block, "quantized: vectors of another length than the matrix's rows");
    let kernel = kernel();
    for panel in panels {
        let first = panel * PANEL;
        let columns = PANEL.min(matrix.n_out - first);
        for tile in &x.tiles {
            // SAFETY: the tile's vectors are rows of `out`, the panel's columns are guaranteed by the caller; this
            // processor supports the kernel.
            unsafe {
                let out = out.add(tile.first * stride + first);
                kernel(matrix.quant, matrix.panel(panel), tile, Target { out, stride, columns });
            }
        }
    }
}
