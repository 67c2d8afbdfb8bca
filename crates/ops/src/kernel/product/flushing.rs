//! The innermost loop of bfloat16 pairs with AVX2, in the mode of the processor in which subnormals are zero.
//!
//! VDPBF16PS treats subnormals as zero whatever the mode. Without that instruction, a comparison after every sum costs
//! more than the sum; the control register MXCSR does it for nothing. Rust takes its default mode for granted, so the
//! register is changed and restored within one block of assembly, and everything in between is in it.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{__m256, _mm256_setzero_ps};

use super::tile::Panel;

/// The bits of MXCSR: subnormal results (bit 15) and operands (bit 6) become zero of the same sign.
const FLUSHING: u32 = 1 << 15 | 1 << 6;

/// `PHASE ROWS`: adds one half of each pair, of two registers of columns in ymm0 and ymm1, to the sums of all rows.
/// The pair of a row is broadcast, then its half is brought into place by `half` with `by`.
macro_rules! rows {
    ($half:literal, $by:literal; $($at:literal $first:literal $second:literal)*) => {
        concat!($(
            "vpbroadcastd ymm2, [{a} + ", $at, "]\n",
            $half, " ymm2, ymm2, ", $by, "\n",
            "vfmadd231ps ", $first, ", ymm2, ymm0\n",
            "vfmadd231ps ", $second, ", ymm2, ymm1\n",
        )*)
    };
}

/// `fn NAME -> ROWS; AT FIRST SECOND, …`: sums of a tile of so many rows and two registers of columns; of each row the
/// bytes to its pair, and the registers of its sums.
macro_rules! sums {
    ($(fn $name:ident -> $rows:literal; $($at:literal $first:literal $second:literal),*;)*) => { $(
        /// The sums of a tile: second halves of a pair first, as the instruction adds them.
        ///
        /// # Safety
        /// The panels must hold `steps` steps of full tiles, and the processor must have AVX2 and FMA.
        #[inline(always)]
        pub(super) unsafe fn $name(steps: usize, a: Panel<u32>, b: Panel<u32>) -> [[__m256; 2]; $rows] {
            // SAFETY: the caller's promise; the loop reads the steps of both panels, and writes `modes` and `sums`.
            unsafe {
                let mut sums = [[_mm256_setzero_ps(); 2]; $rows];
                // The mode outside, and the one of the loop.
                let mut modes = [0u32; 2];
                asm!(
                    "stmxcsr [{modes}]",
                    "mov {mode:e}, [{modes}]",
                    "or {mode:e}, {flushing}",
                    "mov [{modes} + 4], {mode:e}",
                    "ldmxcsr [{modes} + 4]",
                    // The upper half of each pair.
                    "vpcmpeqd ymm3, ymm3, ymm3",
                    "vpslld ymm3, ymm3, 16",
                    concat!($("vxorps ", $first, ", ", $first, ", ", $first, "\n",
                        "vxorps ", $second, ", ", $second, ", ", $second, "\n",)*),
                    "test {steps}, {steps}",
                    "jz 3f",
                    "2:",
                    "vandps ymm0, ymm3, [{b}]",
                    "vandps ymm1, ymm3, [{b} + 32]",
                    rows!("vandps", "ymm3"; $($at $first $second)*),
                    "vmovups ymm0, [{b}]",
                    "vmovups ymm1, [{b} + 32]",
                    "vpslld ymm0, ymm0, 16",
                    "vpslld ymm1, ymm1, 16",
                    rows!("vpslld", "16"; $($at $first $second)*),
                    "add {a}, {a_step}",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    concat!($("vmovups [{sums} + 16 * ", $at, "], ", $first, "\n",
                        "vmovups [{sums} + 16 * ", $at, " + 32], ", $second, "\n",)*),
                    "ldmxcsr [{modes}]",
                    modes = in(reg) modes.as_mut_ptr(),
                    mode = out(reg) _,
                    flushing = const FLUSHING,
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
    fn six -> 6;
        0 "ymm4" "ymm5", 4 "ymm6" "ymm7", 8 "ymm8" "ymm9",
        12 "ymm10" "ymm11", 16 "ymm12" "ymm13", 20 "ymm14" "ymm15";
    fn four -> 4;
        0 "ymm4" "ymm5", 4 "ymm6" "ymm7", 8 "ymm8" "ymm9", 12 "ymm10" "ymm11";
}
