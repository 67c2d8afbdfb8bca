//! Products with AVX-512: 32 registers of 512 bits.
#![allow(unsafe_code)]

use super::bf16;
use super::machine::{Machine, SQUARE};
use std::arch::x86_64::*;

/// float32 on AVX-512F.
pub(super) struct Single;
/// Pairs of bfloat16, summed in float32, on AVX512-BF16.
pub(super) struct Pairs;
/// [`Pairs`] on AVX-512 without AVX512-BF16.
pub(super) struct SplitPairs;

/// `rows!(n, l => ROW)`: the first `n` of [`SQUARE`] rows, then zeros; unrolled for the usual panels, because an array
/// that a loop of unknown length fills goes through memory.
macro_rules! rows {
    ($n:expr, $l:ident => $row:expr) => {{
        let mut rows = [_mm512_setzero_si512(); SQUARE];
        match $n {
            SQUARE => {
                for $l in 0..SQUARE {
                    rows[$l] = $row;
                }
            }
            12 => {
                for $l in 0..12 {
                    rows[$l] = $row;
                }
            }
            n => {
                for $l in 0..n {
                    rows[$l] = $row;
                }
            }
        }
        rows
    }};
}

// SAFETY of all that follows: these functions are called only if the instructions were detected, and the trait's caller
// guarantees valid pointers.
impl Machine for Single {
    type Number = f32;
    type Word = f32;
    type Sums = __m512;
    type Words = __m512;
    const LANES: usize = 16;
    const PER_WORD: usize = 1;
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m512 {
        unsafe { _mm512_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn step(sums: __m512, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }
    #[inline(always)]
    unsafe fn finish(out: *mut f32, sums: __m512, scale: f32, add: bool) {
        unsafe { finish(out, sums, scale, add) }
    }
    #[inline(always)]
    fn word(first: f32, _: f32) -> f32 {
        first
    }
    #[inline(always)]
    fn of_halves(first: u16, _: u16) -> f32 {
        bf16::of_half(first)
    }
    #[inline(always)]
    unsafe fn interleave(first: *const f32, _: *const f32, lines: usize, to: *mut f32) {
        unsafe {
            for l in (0..lines).step_by(SQUARE) {
                let mask = first_lanes(lines - l);
                _mm512_mask_storeu_ps(to.add(l), mask, _mm512_maskz_loadu_ps(mask, first.add(l)));
            }
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, line: usize, lines: usize, to: *mut f32, width: usize) {
        unsafe {
            let rows = rows!(lines, l => _mm512_castps_si512(_mm512_loadu_ps(from.add(l * line))));
            store_transposed(rows, lines, to.cast(), width);
        }
    }
}

impl Machine for Pairs {
    type Number = f32;
    type Word = u32;
    type Sums = __m512;
    type Words = __m512i;
    const LANES: usize = 16;
    const PER_WORD: usize = 2;
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u32) -> __m512i {
        unsafe { _mm512_set1_epi32((*from).cast_signed()) }
    }
    #[inline(always)]
    unsafe fn step(sums: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: as above; both types are 512 bits without invalid values.
        unsafe {
            _mm512_dpbf16_ps(
                sums,
                std::mem::transmute::<__m512i, __m512bh>(a),
                std::mem::transmute::<__m512i, __m512bh>(b),
            )
        }
    }
    #[inline(always)]
    unsafe fn finish(out: *mut f32, sums: __m512, scale: f32, add: bool) {
        unsafe { finish(out, sums, scale, add) }
    }
    #[inline(always)]
    fn word(first: f32, second: f32) -> u32 {
        bf16::pair(first, second)
    }
    #[inline(always)]
    fn of_halves(first: u16, second: u16) -> u32 {
        bf16::pair_of_halves(first, second)
    }
    #[inline(always)]
    unsafe fn interleave_halves(first: *const u16, second: *const u16, lines: usize, to: *mut u32) {
        unsafe { interleave_halves(first, second, lines, to) }
    }
    #[inline(always)]
    unsafe fn transpose_halves(from: *const u16, line: usize, lines: usize, to: *mut u32, width: usize) {
        unsafe { transpose_halves(from, line, lines, to, width) }
    }
    #[inline(always)]
    unsafe fn interleave(first: *const f32, second: *const f32, lines: usize, to: *mut u32) {
        unsafe {
            for l in (0..lines).step_by(SQUARE) {
                let mask = first_lanes(lines - l);
                let low = rounded(_mm512_maskz_loadu_ps(mask, first.add(l)));
                let high = _mm512_slli_epi32::<16>(rounded(_mm512_maskz_loadu_ps(mask, second.add(l))));
                _mm512_mask_storeu_epi32(to.add(l).cast(), mask, _mm512_or_si512(low, high));
            }
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, line: usize, lines: usize, to: *mut u32, width: usize) {
        unsafe { transpose_pairs(from, line, lines, to, width) }
    }
}

impl Machine for SplitPairs {
    type Number = f32;
    type Word = u32;
    type Sums = __m512;
    type Words = [__m512; 2];
    const LANES: usize = 16;
    const PER_WORD: usize = 2;
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> [__m512; 2] {
        unsafe { split(_mm512_loadu_si512(from.cast())) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u32) -> [__m512; 2] {
        unsafe { split(_mm512_set1_epi32((*from).cast_signed())) }
    }
    #[inline(always)]
    unsafe fn step(sums: __m512, a: [__m512; 2], b: [__m512; 2]) -> __m512 {
        unsafe {
            let odd = flush(_mm512_fmadd_ps(a[1], b[1], sums));
            flush(_mm512_fmadd_ps(a[0], b[0], odd))
        }
    }
    #[inline(always)]
    unsafe fn finish(out: *mut f32, sums: __m512, scale: f32, add: bool) {
        unsafe { finish(out, sums, scale, add) }
    }
    #[inline(always)]
    fn word(first: f32, second: f32) -> u32 {
        bf16::pair(first, second)
    }
    #[inline(always)]
    fn of_halves(first: u16, second: u16) -> u32 {
        bf16::pair_of_halves(first, second)
    }
    #[inline(always)]
    unsafe fn interleave_halves(first: *const u16, second: *const u16, lines: usize, to: *mut u32) {
        unsafe { interleave_halves(first, second, lines, to) }
    }
    #[inline(always)]
    unsafe fn transpose_halves(from: *const u16, line: usize, lines: usize, to: *mut u32, width: usize) {
        unsafe { transpose_halves(from, line, lines, to, width) }
    }
}

#[inline(always)]
unsafe fn interleave_halves(first: *const u16, second: *const u16, lines: usize, to: *mut u32) {
    unsafe {
        for l in (0..lines).step_by(SQUARE) {
            let mask = first_lanes(lines - l);
            let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, first.add(l).cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, second.add(l).cast()));
            let pairs = _mm512_or_si512(low, _mm512_slli_epi32::<16>(high));
            _mm512_mask_storeu_epi32(to.add(l).cast(), mask, pairs);
        }
    }
}

#[inline(always)]
unsafe fn transpose_halves(from: *const u16, line: usize, lines: usize, to: *mut u32, width: usize) {
    unsafe {
        let rows = rows!(lines, l => _mm512_loadu_si512(from.add(l * line).cast()));
        store_transposed(rows, lines, to, width);
    }
}

#[inline(always)]
unsafe fn finish(out: *mut f32, sums: __m512, scale: f32, add: bool) {
    unsafe {
        let scale = _mm512_set1_ps(scale);
        let result =
            if add { _mm512_fmadd_ps(scale, sums, _mm512_loadu_ps(out)) } else { _mm512_mul_ps(scale, sums) };
        _mm512_storeu_ps(out, result);
    }
}

/// The two values of each pair, the first in the lower half, as float32; subnormals become zero.
#[inline(always)]
unsafe fn split(pairs: __m512i) -> [__m512; 2] {
    unsafe {
        let first = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
        let second =
            _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())));
        [flush(first), flush(second)]
    }
}

/// Flushes subnormals to zero of the same sign.
#[inline(always)]
unsafe fn flush(x: __m512) -> __m512 {
    unsafe {
        let sign = _mm512_set1_epi32(i32::MIN);
        let small = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
        let bits = _mm512_castps_si512(x);
        _mm512_castsi512_ps(_mm512_mask_and_epi32(bits, small, bits, sign))
    }
}

/// A mask of the first `n` lanes, or of all.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    if n >= SQUARE { u16::MAX } else { (1 << n) - 1 }
}

/// Rounds each value to bfloat16 in the lower half of its lane.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    unsafe { _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))) }
}

/// Rounds `lines` lines of 32 values to pairs, and stores them transposed.
#[inline(always)]
unsafe fn transpose_pairs(from: *const f32, line: usize, lines: usize, to: *mut u32, width: usize) {
    unsafe {
        let rows = rows!(lines, l => {
            let from = from.add(l * line);
            let pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
            std::mem::transmute::<__m512bh, __m512i>(pairs)
        });
        store_transposed(rows, lines, to, width);
    }
}

/// Stores word `w` of row `l` at `w · width + l`, for the first `lines` rows.
#[inline(always)]
unsafe fn store_transposed(rows: [__m512i; SQUARE], lines: usize, to: *mut u32, width: usize) {
    unsafe {
        let mask = first_lanes(lines);
        // Four steps swap words, pairs, quarters and halves.
        let mut x = rows;
        let mut y = [_mm512_setzero_si512(); SQUARE];
        for i in 0..8 {
            y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
        }
        for i in 0..4 {
            for j in 0..2 {
                x[4 * i + 2 * j] = _mm512_unpacklo_epi64(y[4 * i + j], y[4 * i + 2 + j]);
                x[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(y[4 * i + j], y[4 * i + 2 + j]);
            }
        }
        // x[4 i + c], quarter q: column 4 q + c of rows 4 i … 4 i + 3.
        for i in 0..2 {
            for c in 0..4 {
                y[8 * i + c] = _mm512_shuffle_i32x4::<0b10_00_10_00>(x[8 * i + c], x[8 * i + 4 + c]);
                y[8 * i + 4 + c] = _mm512_shuffle_i32x4::<0b11_01_11_01>(x[8 * i + c], x[8 * i + 4 + c]);
            }
        }
        // y[8 i + 4 p + c], quarters: columns 4 p + c and 8 + 4 p + c of rows 8 i … 8 i + 3, then of 8 i + 4 ….
        for p in 0..2 {
            for c in 0..4 {
                let (a, b) = (y[4 * p + c], y[8 + 4 * p + c]);
                let first = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
                let second = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
                _mm512_mask_storeu_epi32(to.add((4 * p + c) * width).cast(), mask, first);
                _mm512_mask_storeu_epi32(to.add((8 + 4 * p + c) * width).cast(), mask, second);
            }
        }
    }
}
