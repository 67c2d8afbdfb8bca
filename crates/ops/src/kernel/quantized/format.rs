//! Blocks in GGUF's format ([ggml](https://github.com/ggml-org/ggml), `ggml-quants.c`), to the byte.

use crate::kernel::simd::multiversion;
use half::f16;

/// The number of values in a block.
pub(crate) const BLOCK: usize = 32;

/// The storage format of a block's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quant {
    /// A float16 scale, the largest magnitude / 127, and 32 bytes: each value over the scale, rounded half away from
    /// zero.
    Q8_0,
    /// A float16 scale, the first value of the largest magnitude / −8, and 16 bytes of two values each, from −8 to 7,
    /// with 8 added: the first sixteen in the lower halves.
    Q4_0,
}

impl Quant {
    /// Bytes of a block.
    pub(crate) const fn n_bytes(self) -> usize {
        2 + self.n_packed()
    }

    /// Bytes of a block without its scale.
    pub(super) const fn n_packed(self) -> usize {
        match self {
            Self::Q8_0 => BLOCK,
            Self::Q4_0 => BLOCK / 2,
        }
    }

    /// The offset added to each value to make it nonnegative.
    pub(super) const fn offset(self) -> i32 {
        match self {
            Self::Q8_0 => 128,
            Self::Q4_0 => 8,
        }
    }

    /// Stores values as complete blocks.
    ///
    /// # Shape
    /// x `[32 n]`, out `[n · bytes of a block]`.
    pub(crate) fn quantize(self, x: &[f32], out: &mut [u8]) {
        assert_eq!(x.len() * self.n_bytes(), out.len() * BLOCK, "quantize: room for complete blocks");
        match self {
            Self::Q8_0 => quantize_q8_0::<f32>(x, out),
            Self::Q4_0 => quantize_q4_0::<f32>(x, out),
        }
    }

    /// The values of complete blocks.
    pub(crate) fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(out.len() * self.n_bytes(), bytes.len() * BLOCK, "dequantize: complete blocks");
        for (block, out) in bytes.chunks_exact(self.n_bytes()).zip(out.as_chunks_mut::<BLOCK>().0) {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let packed = &block[2..];
            match self {
                Self::Q8_0 => {
                    for (out, &byte) in out.iter_mut().zip(packed) {
                        *out = f32::from(byte.cast_signed()) * scale;
                    }
                }
                Self::Q4_0 => {
                    for (at, &byte) in packed.iter().enumerate() {
                        out[at] = (f32::from(byte & 15) - 8.0) * scale;
                        out[at + BLOCK / 2] = (f32::from(byte >> 4) - 8.0) * scale;
                    }
                }
            }
        }
    }
}

multiversion! {
    fn quantize_q8_0 = q8_0_body(x: &[f32], out: &mut [u8]);
    fn quantize_q4_0 = q4_0_body(x: &[f32], out: &mut [u8]);
}

#[inline(always)]
fn q8_0_body<T: crate::kernel::Float, const FMA: bool>(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BLOCK + 2)) {
        let mut largest = [0.0f32; 16];
        for (i, x) in x.iter().enumerate() {
            let size = x.abs();
            largest[i % 16] = if size > largest[i % 16] { size } else { largest[i % 16] };
        }
        let scale = largest.into_iter().fold(0.0, f32::max) / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        let mut whole = [0i32; BLOCK];
        for (whole, x) in whole.iter_mut().zip(x) {
            let scaled = x * inverse;
            // Half away from zero: adds the largest float below a half, so that nothing else is carried over.
            let rounded = (scaled + 0.499_999_97_f32.copysign(scaled)).trunc();
            // SAFETY: |x| ≤ 127 scale, so the value is small; a NaN fails the comparison.
            *whole = if rounded.abs() <= 128.0 { unsafe { rounded.to_int_unchecked() } } else { 0 };
        }
        for (out, whole) in out[2..].iter_mut().zip(whole) {
            *out = whole as u8;
        }
    }
}

#[inline(always)]
fn q4_0_body<T: crate::kernel::Float, const FMA: bool>(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BLOCK / 2 + 2)) {
        let mut sizes = [0.0f32; 16];
        for (i, x) in x.iter().enumerate() {
            let size = x.abs();
            sizes[i % 16] = if size > sizes[i % 16] { size } else { sizes[i % 16] };
        }
        let size = sizes.into_iter().fold(0.0, f32::max);
        let first = x.iter().copied().find(|x| x.abs() == size).unwrap_or(0.0);
        let scale = first / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        out[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        let mut whole = [0i32; BLOCK];
        for (whole, x) in whole.iter_mut().zip(x) {
            let shifted = x * inverse + 8.5;
            // SAFETY: |x| ≤ 8 |scale| up to rounding, so the value is small.
            *whole =
                if shifted.abs() <= 32.0 { unsafe { shifted.to_int_unchecked::<i32>() } } else { 0 }.min(15);
        }
        for (at, out) in out[2..].iter_mut().enumerate() {
            *out = whole[at] as u8 | (whole[at + BLOCK / 2] as u8) << 4;
        }
    }
}
