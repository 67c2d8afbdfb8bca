//! The innermost loop of bfloat16 pairs with AVX2, in the mode of the processor in which subnormals are zero.
//!
//! VDPBF16PS treats subnormals as zero whatever the mode. Without that instruction, a comparison after every sum costs
//! more than the sum; the control register MXCSR does it for nothing. Rust takes its default mode for granted, so the
//! register is changed and restored within one block of assembly, and everything in between is in it.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{__m256, _mm256_setzero_ps};

use super::machine::Panel;

/// The bits of MXCSR: subnormal results (bit 15) and operands (bit 6) become zero of the same sign.
const FLUSHING: u32 = 1 << 15 | 1 << 6;

// The halves of a pair, as float32: the second half is where it belongs, and the mask in ymm3 clears the first; a shift
// brings the first there. Second halves are added first, as the instruction does.

/// The sums of some rows with two registers of columns, in ymm0 and ymm1: bytes to a row's pair, and its sums.
macro_rules! many_rows {
    ($($at:literal $first:literal $second:literal)*) => { concat!(
        "vandps ymm0, ymm3, [{b}]\n",
        "vandps ymm1, ymm3, [{b} + 32]\n",
        many_rows!("vandps", "ymm3"; $($at $first $second)*),
        "vmovups ymm0, [{b}]\n",
        "vmovups ymm1, [{b} + 32]\n",
        "vpslld ymm0, ymm0, 16\n",
        "vpslld ymm1, ymm1, 16\n",
        many_rows!("vpslld", "16"; $($at $first $second)*),
    ) };
    ($half:literal, $by:literal; $($at:literal $first:literal $second:literal)*) => { concat!($(
        "vpbroadcastd ymm2, [{a} + ", $at, "]\n",
        $half, " ymm2, ymm2, ", $by, "\n",
        "vfmadd231ps ", $first, ", ymm2, ymm0\n",
        "vfmadd231ps ", $second, ", ymm2, ymm1\n",
    )*) };
}

/// The sums of one row, or two, with four registers of columns: bytes to these columns, and their sums of each row.
/// The lines ahead are requested: the hardware stops at each page.
macro_rules! few_rows {
    (@rows $half:literal, $by:literal, 1) => { concat!(
        "vpbroadcastd ymm1, [{a}]\n", $half, " ymm1, ymm1, ", $by, "\n",
    ) };
    (@rows $half:literal, $by:literal, 2) => { concat!(
        "vpbroadcastd ymm1, [{a}]\n", $half, " ymm1, ymm1, ", $by, "\n",
        "vpbroadcastd ymm2, [{a} + 4]\n", $half, " ymm2, ymm2, ", $by, "\n",
    ) };
    (@sum $first:literal) => { concat!("vfmadd231ps ", $first, ", ymm1, ymm0\n") };
    (@sum $first:literal $second:literal) => { concat!(
        "vfmadd231ps ", $first, ", ymm1, ymm0\n", "vfmadd231ps ", $second, ", ymm2, ymm0\n",
    ) };
    ($rows:tt; $($at:literal ($($sum:literal)*))*) => { concat!(
        "prefetcht1 [{b} + {ahead}]\n",
        "prefetcht1 [{b} + {ahead} + 64]\n",
        few_rows!(@rows "vandps", "ymm3", $rows),
        $("vandps ymm0, ymm3, [{b} + ", $at, "]\n", few_rows!(@sum $($sum)*),)*
        few_rows!(@rows "vpslld", "16", $rows),
        $("vmovups ymm0, [{b} + ", $at, "]\n", "vpslld ymm0, ymm0, 16\n", few_rows!(@sum $($sum)*),)*
    ) };
}

/// `fn NAME -> ROWS by REGISTERS; STEP; SUMS`: the sums of a tile, computed in these registers by one step repeated.
macro_rules! sums {
    ($(fn $name:ident -> $rows:literal by $wide:literal; $step:expr; $($sum:literal $at:literal),*;)*) => { $(
        /// The sums of a tile.
        ///
        /// # Safety
        /// The panels must hold `steps` steps of full tiles, and the processor must have AVX2 and FMA.
        #[inline(always)]
        pub(super) unsafe fn $name(steps: usize, a: Panel<u32>, b: Panel<u32>) -> [[__m256; $wide]; $rows] {
            // SAFETY: the caller's promise; the loop reads the steps of both panels, and writes `modes` and `sums`.
            unsafe {
                let mut sums = [[_mm256_setzero_ps(); $wide]; $rows];
                // The mode outside, and the one of the loop.
                let mut modes = [0u32; 2];
                asm!(
                    "stmxcsr [{modes}]",
                    "mov {mode:e}, [{modes}]",
                    "or {mode:e}, {flushing}",
                    "mov [{modes} + 4], {mode:e}",
                    "ldmxcsr [{modes} + 4]",
                    "vpcmpeqd ymm3, ymm3, ymm3",
                    "vpslld ymm3, ymm3, 16",
                    concat!($("vxorps ", $sum, ", ", $sum, ", ", $sum, "\n",)*),
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    $step,
                    "add {a}, {a_step}",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    concat!($("vmovups [{sums} + ", $at, "], ", $sum, "\n",)*),
                    "ldmxcsr [{modes}]",
                    // A step that doesn't ask leaves it out, and all operands must occur.
                    "/* {ahead} */",
                    modes = in(reg) modes.as_mut_ptr(),
                    mode = out(reg) _,
                    flushing = const FLUSHING,
                    ahead = const crate::kernel::tiles::AHEAD,
                    steps = inout(reg) steps => _,
                    a = inout(reg) a.start => _,
                    a_step = in(reg) a.step * size_of::<u32>(),
                    b = inout(reg) b.start => _,
                    b_step = in(reg) b.step * size_of::<u32>(),
                    sums = in(reg) sums.as_mut_ptr(),
                    out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
                    out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
                    out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                    out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
                    options(nostack),
                );
                sums
            }
        }
    )* };
}

sums! {
    fn six -> 6 by 2;
        many_rows!(0 "ymm4" "ymm5" 4 "ymm6" "ymm7" 8 "ymm8" "ymm9"
            12 "ymm10" "ymm11" 16 "ymm12" "ymm13" 20 "ymm14" "ymm15");
        "ymm4" 0, "ymm5" 32, "ymm6" 64, "ymm7" 96, "ymm8" 128, "ymm9" 160,
        "ymm10" 192, "ymm11" 224, "ymm12" 256, "ymm13" 288, "ymm14" 320, "ymm15" 352;
    fn four -> 4 by 2;
        many_rows!(0 "ymm4" "ymm5" 4 "ymm6" "ymm7" 8 "ymm8" "ymm9" 12 "ymm10" "ymm11");
        "ymm4" 0, "ymm5" 32, "ymm6" 64, "ymm7" 96, "ymm8" 128, "ymm9" 160, "ymm10" 192, "ymm11" 224;
    fn two -> 2 by 4;
        few_rows!(2; 0 ("ymm4" "ymm8") 32 ("ymm5" "ymm9") 64 ("ymm6" "ymm10") 96 ("ymm7" "ymm11"));
        "ymm4" 0, "ymm5" 32, "ymm6" 64, "ymm7" 96, "ymm8" 128, "ymm9" 160, "ymm10" 192, "ymm11" 224;
    fn one -> 1 by 4;
        few_rows!(1; 0 ("ymm4") 32 ("ymm5") 64 ("ymm6") 96 ("ymm7"));
        "ymm4" 0, "ymm5" 32, "ymm6" 64, "ymm7" 96;
}
