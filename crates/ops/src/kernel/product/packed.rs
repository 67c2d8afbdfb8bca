//! A bfloat16 matrix, packed once and multiplied many times, by one vector or hundreds.
//!
//! Each element is bit-identical to that of a product in [`crate::threads::Precision::Bfloat16`], for any number of
//! vectors.
#![allow(unsafe_code)]

use super::blocked::DEPTH;
use super::machine::{COLUMNS, Machine, Panel};
use super::pack::{Lines as View, Numbers, pack};
use super::plain;
use super::tile::{Target, write};
use crate::kernel::lines::Lines;
use crate::kernel::simd::{Level, PORTABLE_FMA, level};
use crate::kernel::team::Team;
use crate::kernel::tiles::{Tile, cut};
use half::bf16;
use std::ops::Range;

/// Rows of the matrix that are interleaved.
pub(crate) const PANEL: usize = COLUMNS;

/// A matrix in panels of [`PANEL`] rows: the first pair of each row, then the next pair of each.
pub(crate) struct Pairs {
    pub(super) n_out: usize,
    n_in: usize,
    lines: Lines,
}

/// Size of a panel in bytes.
pub(crate) fn panel_bytes(n_in: usize) -> usize {
    n_in.div_ceil(2) * PANEL * size_of::<u32>()
}

/// Packs up to [`PANEL`] rows, one after another in `rows`.
pub(crate) fn pack_panel(rows: &[f32], n_in: usize, panel: &mut [u8]) {
    assert!(
        panel.len() == panel_bytes(n_in) && rows.len() <= PANEL * n_in,
        "pack: a panel of the wrong size"
    );
    assert!(panel.as_ptr().cast::<u32>().is_aligned(), "pack: a misaligned panel");
    let lines = rows.len() / n_in.max(1);
    // SAFETY: the rows have `n_in` elements, and the panel has room for full words of all of them.
    unsafe {
        pack_words(
            View { start: rows.as_ptr(), line: n_in, step: 1 },
            lines,
            n_in,
            panel.as_mut_ptr().cast(),
            PANEL,
        )
    }
}

/// Vectors rounded to pairs, interleaved in tiles.
#[derive(Default)]
pub(crate) struct Paired {
    tiles: Vec<Tile>,
    n_in: usize,
}

impl Paired {
    /// Rounds the vectors of `x`, each of `n_in` elements.
    pub(crate) fn fill(&mut self, x: &[f32], n_in: usize, team: &mut Team) {
        assert!(n_in > 0 && x.len().is_multiple_of(n_in), "paired: an incomplete vector");
        self.n_in = n_in;
        cut(&mut self.tiles, x.len() / n_in);
        team.each(&mut self.tiles, &|_, Tile { words, first, height }| {
            words.resize(*height * n_in.div_ceil(2), 0);
            let start = x[*first * n_in..][..*height * n_in].as_ptr();
            // SAFETY: this many vectors start there, and there is room for full words of all of them.
            unsafe {
                pack_words(View { start, line: n_in, step: 1 }, *height, n_in, words.as_mut_ptr(), *height);
            }
        });
    }
}

impl Pairs {
    /// A matrix of `n_out` rows of `n_in` elements; `lines` holds its panels in order.
    pub(crate) fn new(n_out: usize, n_in: usize, lines: Lines) -> Self {
        assert_eq!(
            lines.n_bytes(),
            n_out.div_ceil(PANEL) * panel_bytes(n_in),
            "pairs: panels of the wrong size"
        );
        Self { n_out, n_in, lines }
    }

    /// The elements per row.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let panel = &self.lines.bytes()[row / PANEL * panel_bytes(self.n_in)..][..panel_bytes(self.n_in)];
        let word = |w: usize| {
            let at = (w * PANEL + row % PANEL) * 4;
            [[panel[at], panel[at + 1]], [panel[at + 2], panel[at + 3]]]
        };
        for (i, out) in out.iter_mut().enumerate().take(self.n_in) {
            *out = bf16::from_le_bytes(word(i / 2)[i % 2]).to_f32();
        }
    }
}

/// Columns `panels · PANEL` of `x Wᵀ` for all vectors of `x`, into rows that start `stride` elements apart.
///
/// # Safety
/// The existing ones of those columns must be valid in each row of `out`, and not accessed by others.
pub(crate) unsafe fn multiply(
    matrix: &Pairs,
    x: &Paired,
    panels: Range<usize>,
    out: *mut f32,
    stride: usize,
) {
    assert_eq!(matrix.n_in, x.n_in, "pairs: vectors and matrix rows differ in length");
    // SAFETY: exactly these features were detected; the rest is the caller's promise.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if is_x86_feature_detected!("avx512bf16") => {
                multiply_avx512(matrix, x, panels, out, stride);
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => multiply_split(matrix, x, panels, out, stride),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => multiply_avx2(matrix, x, panels, out, stride),
            Level::Portable => multiply_with::<plain::Pairs<PORTABLE_FMA>>(matrix, x, panels, out, stride),
        }
    }
}

/// # Safety
/// As for [`pack`], on any processor.
unsafe fn pack_words(from: View<f32>, lines: usize, numbers: usize, to: *mut u32, width: usize) {
    // SAFETY: as for `multiply`.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if is_x86_feature_detected!("avx512bf16") => {
                pack_avx512(from, lines, numbers, to, width);
            }
            _ => pack::<plain::Pairs<PORTABLE_FMA>, Numbers>(from, lines, numbers, to, width),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pack_avx512(from: View<f32>, lines: usize, numbers: usize, to: *mut u32, width: usize) {
    // SAFETY: the caller's promise; the features are named above.
    unsafe { pack::<super::avx512::Pairs, Numbers>(from, lines, numbers, to, width) }
}

/// `fn name = Machine with "features"`: [`multiply_with`] compiled for these features.
macro_rules! compiled {
    ($($name:ident = $machine:ty, $features:literal;)*) => { $(
        #[target_feature(enable = $features)]
        #[cfg(target_arch = "x86_64")]
        pub(super) unsafe fn $name(matrix: &Pairs, x: &Paired, panels: Range<usize>, out: *mut f32, stride: usize) {
            // SAFETY: the caller's promise; the features are named above.
            unsafe { multiply_with::<$machine>(matrix, x, panels, out, stride) }
        }
    )* };
}

compiled! {
    multiply_avx512 = super::avx512::Pairs, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma";
    multiply_split = super::avx512::SplitPairs, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma";
    multiply_avx2 = super::avx2::Pairs, "avx2,fma";
}

/// # Safety
/// As for [`multiply`], on a processor with `M`'s instructions.
#[inline(always)]
pub(super) unsafe fn multiply_with<M: Machine<Number = f32, Word = u32>>(
    matrix: &Pairs,
    x: &Paired,
    panels: Range<usize>,
    out: *mut f32,
    stride: usize,
) {
    let words = matrix.n_in.div_ceil(2);
    for number in panels {
        let panel = &matrix.lines.bytes()[number * panel_bytes(matrix.n_in)..][..panel_bytes(matrix.n_in)];
        let columns = PANEL.min(matrix.n_out - number * PANEL);
        for word in (0..words).step_by(DEPTH) {
            let steps = DEPTH.min(words - word);
            for Tile { words: left, first, height } in &x.tiles {
                assert!(left.len() >= height * words, "multiply: a tile of the wrong size");
                // SAFETY: panel and tile hold `words` words of each line; the caller guarantees the target.
                unsafe {
                    let right = panel.as_ptr().cast::<u32>().add(word * PANEL);
                    let left = left.as_ptr().add(word * height);
                    let out = out.add(first * stride + number * PANEL);
                    let (rows, scale) = (*height, 1.0);
                    let target = Target { out, stride, rows, columns, scale, add: word > 0 };
                    match height {
                        1 => tile::<M, 1, true>(steps, (left, 1), right, target),
                        2 => tile::<M, 2, true>(steps, (left, 2), right, target),
                        4 => tile::<M, 4, true>(steps, (left, 4), right, target),
                        _ if M::ROWS < 12 => {
                            // Six at a time, or four of eight.
                            let tall = if *height == 12 { 6 } else { 4 };
                            for row in (0..*height).step_by(tall) {
                                let target = target.at(row, 0);
                                let left = (left.add(row), *height);
                                match tall {
                                    6 => tile::<M, 6, false>(steps, left, right, target),
                                    _ => tile::<M, 4, false>(steps, left, right, target),
                                }
                            }
                        }
                        8 => tile::<M, 8, true>(steps, (left, 8), right, target),
                        _ => tile::<M, 12, false>(steps, (left, 12), right, target),
                    }
                }
            }
        }
    }
}

/// A tile of all columns of a panel; `ASK` prefetches it.
///
/// # Safety
/// `steps` words of `R` lines, `height` apart, and of a panel; the caller guarantees the target.
#[inline(always)]
unsafe fn tile<M: Machine<Number = f32, Word = u32>, const R: usize, const ASK: bool>(
    steps: usize,
    (left, height): (*const u32, usize),
    right: *const u32,
    target: Target<f32>,
) {
    let (a, b) = (Panel { start: left, step: height }, Panel { start: right, step: PANEL });
    // SAFETY: the caller's promise.
    unsafe {
        if R <= 2 && 4 * M::LANES == PANEL {
            return write::<M, R, 4>(&M::sums::<R, 4, ASK>(steps, a, b), target);
        }
        // The first pass asks for the columns of all.
        write::<M, R, 2>(&M::sums::<R, 2, ASK>(steps, a, b), target);
        for column in (2 * M::LANES..PANEL).step_by(2 * M::LANES) {
            write::<M, R, 2>(&M::sums::<R, 2, false>(steps, a, b.of_line(column)), target.at(0, column));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{View as Matrix, Write, project};
    use super::*;
    use crate::kernel::lines::Arena;
    use crate::threads::{Precision, with_precision};
    use vulpes_random::Key;

    /// Every variant equals the product used in training, for any number of vectors.
    #[test]
    fn packed_products_are_bit_identical_to_the_product() {
        type Form = unsafe fn(&Pairs, &Paired, Range<usize>, *mut f32, usize);
        let mut forms: Vec<(&str, Form)> = vec![("plain", multiply_with::<plain::Pairs<false>>)];
        #[cfg(target_arch = "x86_64")]
        {
            if level() != Level::Portable {
                forms.push(("AVX2", multiply_avx2));
            }
            if level() == Level::Avx512 {
                forms.push(("AVX-512", multiply_split));
                if is_x86_feature_detected!("avx512bf16") {
                    forms.push(("AVX512-BF16", multiply_avx512));
                }
            }
        }
        for (n_out, n_in) in [(1, 1), (32, 33), (40, 64), (70, 2 * DEPTH + 7), (33, 4 * DEPTH + 2)] {
            for n in [1, 2, 3, 7, 8, 13, 25] {
                let mut stream = Key::new(1, "packed").stream();
                let mut numbers = |n: usize| (0..n).map(|_| stream.normal() as f32).collect::<Vec<_>>();
                let (weight, x) = (numbers(n_out * n_in), numbers(n * n_in));
                let mut right = vec![0.0; n * n_out];
                with_precision(Precision::Bfloat16, || {
                    let (a, b) = (Matrix::new(&x, n, n_in), Matrix::new(&weight, n_out, n_in).t());
                    project(&mut right, n_out, Write::Store, 1.0, a, b);
                });
                let len = panel_bytes(n_in);
                let mut lines = Arena::new(0).lines(n_out.div_ceil(PANEL) * len);
                for (panel, rows) in lines.bytes_mut().chunks_exact_mut(len).zip(weight.chunks(PANEL * n_in))
                {
                    pack_panel(rows, n_in, panel);
                }
                let matrix = Pairs::new(n_out, n_in, lines);
                let mut paired = Paired::default();
                paired.fill(&x, n_in, &mut Team::new(2));
                for (name, form) in &forms {
                    let mut out = vec![f32::NAN; n * n_out];
                    // SAFETY: rows of `n_out` columns; the processor supports this variant.
                    unsafe { form(&matrix, &paired, 0..n_out.div_ceil(PANEL), out.as_mut_ptr(), n_out) };
                    let same = out.iter().zip(&right).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{n_out} x {n_in}, {n} vectors, {name}");
                }
                let mut row = vec![0.0; n_in];
                matrix.row(n_out - 1, &mut row);
                let last = &weight[(n_out - 1) * n_in..];
                assert!(row.iter().zip(last).all(|(a, b)| *a == bf16::from_f32(*b).to_f32()));
            }
        }
    }
}
