//! The instruction set that kernels use.

use crate::kernel::simd::Level;

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
