//! A matrix in panels of 16 rows, which the kernels read sequentially.

use super::format::{BLOCK, Quant};
use super::rounded::WORDS;
use crate::kernel::lines::Lines;
use half::f16;

/// The number of rows in a panel.
pub(crate) const PANEL: usize = 16;

/// A matrix of blocks. A panel first stores the values of its rows, block after block: four values of each row next to
/// each other (for [`Quant::Q4_0`] eight, in halves of bytes), with an offset that makes them nonnegative; then the
/// scales, sixteen float16 per block.
pub(crate) struct Panels {
    pub(super) quant: Quant,
    pub(super) n_out: usize,
    pub(super) n_block: usize,
    lines: Lines,
}

/// One panel.
#[derive(Clone, Copy)]
pub(super) struct PanelRef<'a> {
    /// The bytes of the values, `n_block · 16 · bytes of a block without its scale`.
    pub(super) packed: &'a [u8],
    /// The scales' bits, 16 per block.
    pub(super) scales: &'a [u16],
}

/// The bytes of a panel, a multiple of a cache line.
pub(crate) fn panel_bytes(quant: Quant, n_block: usize) -> usize {
    (n_block * PANEL * quant.n_bytes()).next_multiple_of(Lines::LINE)
}

/// Copies the blocks of one row, which has the index `row` in a panel, to their positions in the panel.
pub(crate) fn place(quant: Quant, row: usize, blocks: &[u8], panel: &mut [u8]) {
    let n_block = blocks.len() / quant.n_bytes();
    let (packed, scales) = panel.split_at_mut(n_block * PANEL * quant.n_packed());
    let flip = if quant == Quant::Q8_0 { 0x80 } else { 0 };
    let groups = packed.chunks_exact_mut(PANEL * quant.n_packed());
    for (number, (block, group)) in blocks.chunks_exact(quant.n_bytes()).zip(groups).enumerate() {
        for (four, to) in block[2..].as_chunks::<4>().0.iter().zip(group.as_chunks_mut::<{ 4 * PANEL }>().0) {
            to[row * 4..row * 4 + 4].copy_from_slice(&four.map(|byte| byte ^ flip));
        }
        let at = (number * PANEL + row) * 2;
        scales[at..at + 2].copy_from_slice(&block[..2]);
    }
}

impl Panels {
    /// A matrix of `n_out` rows of `n_in` values; `lines` contains its panels one after another.
    pub(crate) fn new(quant: Quant, n_out: usize, n_in: usize, lines: Lines) -> Self {
        let n_block = n_in / BLOCK;
        assert!(n_in.is_multiple_of(BLOCK), "panels: rows of complete blocks");
        assert_eq!(
            lines.n_bytes(),
            n_out.div_ceil(PANEL) * panel_bytes(quant, n_block),
            "panels: complete panels"
        );
        Self { quant, n_out, n_block, lines }
    }

    pub(super) fn panel(&self, number: usize) -> PanelRef<'_> {
        let len = panel_bytes(self.quant, self.n_block);
        let panel = &self.lines.bytes()[number * len..(number + 1) * len];
        let n_packed = self.n_block * PANEL * self.quant.n_packed();
        let scales = &panel[n_packed..n_packed + self.n_block * PANEL * 2];
        // SAFETY: any two bytes are a valid u16, and the panel is aligned to a cache line.
        let scales = unsafe { std::slice::from_raw_parts(scales.as_ptr().cast::<u16>(), scales.len() / 2) };
        PanelRef { packed: &panel[..n_packed], scales }
    }

    /// The values of a row.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let panel = self.panel(row / PANEL);
        let lane = row % PANEL;
        for (number, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let scale = f16::from_bits(panel.scales[number * PANEL + lane]).to_f32();
            let byte = |word: usize, at: usize| {
                let group = self.quant.n_packed() / 4 * number + word;
                panel.packed[(group * PANEL + lane) * 4 + at]
            };
            for (i, out) in out.iter_mut().enumerate() {
                let (word, at) = (i / 4, i % 4);
                let whole = match self.quant {
                    Quant::Q8_0 => byte(word, at),
                    Quant::Q4_0 if word < WORDS / 2 => byte(word, at) & 15,
                    Quant::Q4_0 => byte(word - WORDS / 2, at) >> 4,
                };
                *out = (i32::from(whole) - self.quant.offset()) as f32 * scale;
            }
        }
    }
}
