//! The instruction set that kernels use.

use crate::kernel::simd::{Level, level};

/// The instruction set that kernels use: `avx512`, `avx2`, or `plain` for portable code.
///
/// It is the best that the processor has, or the value of the environment variable `VULPES_SIMD`; the bits are the same
/// with each.
///
/// # Errors
/// Returns a message if the variable has an unknown value, or one that the processor doesn't have; kernels use the best
/// available then.
pub fn simd() -> Result<&'static str, String> {
    Level::chosen().map(Level::name)
}

/// Whether kernels multiply and add pairs of bfloat16 in one instruction, `VDPBF16PS` of AVX512-BF16.
///
/// If not, products in bfloat16 have the same bits, but take as long as in float32 or longer.
pub fn has_bfloat16_products() -> bool {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => is_x86_feature_detected!("avx512bf16"),
        _ => false,
    }
}
