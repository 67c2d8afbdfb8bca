//! Products with AVX2 and FMA: 16 registers of 256 bits.
#![allow(unsafe_code)]

use super::machine::{self, Machine, Panel};
use super::{bf16, flushing};
use std::arch::x86_64::*;
use std::mem::transmute_copy;

/// float32.
pub(super) struct Single;
/// Pairs of bfloat16, summed in float32.
pub(super) struct Pairs;

// SAFETY of all that follows: these functions are called only if the instructions were detected, and the trait's caller
// guarantees valid pointers.
impl Machine for Single {
    type Number = f32;
    type Word = f32;
    type Sums = __m256;
    type Words = __m256;
    const LANES: usize = 8;
    const PER_WORD: usize = 1;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m256 {
        unsafe { _mm256_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn step(sums: __m256, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, sums) }
    }
    #[inline(always)]
    unsafe fn finish(out: *mut f32, sums: __m256, scale: f32, add: bool) {
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
    unsafe fn transpose(from: *const f32, line: usize, lines: usize, to: *mut f32, width: usize) {
        unsafe {
            for half in [0, 8] {
                let mut l = 0;
                while l + 8 <= lines {
                    let block = from.add(l * line + half);
                    transpose8(block, line, to.add(half * width + l), width);
                    l += 8;
                }
                for l in l..lines {
                    for w in half..half + 8 {
                        *to.add(w * width + l) = *from.add(l * line + w);
                    }
                }
            }
        }
    }
}

impl Machine for Pairs {
    type Number = f32;
    type Word = u32;
    type Sums = __m256;
    type Words = [__m256; 2];
    const LANES: usize = 8;
    const PER_WORD: usize = 2;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u32) -> [__m256; 2] {
        unsafe { split(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn splat(from: *const u32) -> [__m256; 2] {
        unsafe { split(_mm256_set1_epi32((*from).cast_signed())) }
    }
    #[inline(always)]
    unsafe fn step(sums: __m256, a: [__m256; 2], b: [__m256; 2]) -> __m256 {
        unsafe {
            let odd = flush(_mm256_fmadd_ps(a[1], b[1], sums));
            flush(_mm256_fmadd_ps(a[0], b[0], odd))
        }
    }
    #[inline(always)]
    unsafe fn sums<const R: usize, const V: usize, const ASK: bool>(
        steps: usize,
        a: Panel<u32>,
        b: Panel<u32>,
    ) -> [[__m256; V]; R] {
        // SAFETY: as above; the copies are of the type itself.
        unsafe {
            match (R, V) {
                (6, 2) => transmute_copy(&flushing::six(steps, a, b)),
                (4, 2) => transmute_copy(&flushing::four(steps, a, b)),
                (2, 4) => transmute_copy(&flushing::two(steps, a, b)),
                (1, 4) => transmute_copy(&flushing::one(steps, a, b)),
                _ => machine::sums::<Self, R, V, ASK>(steps, a, b),
            }
        }
    }
    #[inline(always)]
    unsafe fn finish(out: *mut f32, sums: __m256, scale: f32, add: bool) {
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
}

#[inline(always)]
unsafe fn finish(out: *mut f32, sums: __m256, scale: f32, add: bool) {
    unsafe {
        let scale = _mm256_set1_ps(scale);
        let result =
            if add { _mm256_fmadd_ps(scale, sums, _mm256_loadu_ps(out)) } else { _mm256_mul_ps(scale, sums) };
        _mm256_storeu_ps(out, result);
    }
}

/// The two values of each pair, the first in the lower half, as float32; subnormals become zero.
#[inline(always)]
unsafe fn split(pairs: __m256i) -> [__m256; 2] {
    unsafe {
        let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs));
        let second =
            _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32.cast_signed())));
        [flush(first), flush(second)]
    }
}

/// Flushes subnormals to zero of the same sign.
#[inline(always)]
unsafe fn flush(x: __m256) -> __m256 {
    unsafe {
        let sign = _mm256_set1_ps(-0.0);
        let size = _mm256_andnot_ps(sign, x);
        let small = _mm256_cmp_ps::<_CMP_LT_OQ>(size, _mm256_set1_ps(f32::MIN_POSITIVE));
        // In subnormal lanes, clears all bits but the sign.
        _mm256_andnot_ps(_mm256_andnot_ps(sign, small), x)
    }
}

/// Stores word `w` of line `l` at `w · width + l`, for eight words of eight lines.
#[inline(always)]
unsafe fn transpose8(from: *const f32, line: usize, to: *mut f32, width: usize) {
    unsafe {
        let (mut x, mut y) = ([_mm256_setzero_ps(); 8], [_mm256_setzero_ps(); 8]);
        for (l, x) in x.iter_mut().enumerate() {
            *x = _mm256_loadu_ps(from.add(l * line));
        }
        for i in 0..4 {
            y[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
            y[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
        }
        for i in [0, 4] {
            x[i] = _mm256_shuffle_ps::<0b01_00_01_00>(y[i], y[i + 2]);
            x[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(y[i], y[i + 2]);
            x[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(y[i + 1], y[i + 3]);
            x[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(y[i + 1], y[i + 3]);
        }
        for w in 0..4 {
            _mm256_storeu_ps(to.add(w * width), _mm256_permute2f128_ps::<0x20>(x[w], x[w + 4]));
            _mm256_storeu_ps(to.add((w + 4) * width), _mm256_permute2f128_ps::<0x31>(x[w], x[w + 4]));
        }
    }
}
