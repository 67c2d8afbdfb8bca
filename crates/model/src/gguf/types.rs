//! The types that the tensors of a GGUF file are stored in (`ggml_type` of ggml.h).

use half::{bf16, f16};
use vulpes_ops::decode::PackedType;

/// A supported type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stored {
    /// float32.
    F32,
    /// float16.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of 32 8-bit values with a float16 scale.
    Q8_0,
    /// Blocks of 32 4-bit values with a float16 scale.
    Q4_0,
}

/// ggml's number of each type, and its name.
const KNOWN: &[(u32, Stored, &str)] = &[
    (0, Stored::F32, "f32"),
    (1, Stored::F16, "f16"),
    (30, Stored::Bf16, "bf16"),
    (8, Stored::Q8_0, "q8_0"),
    (2, Stored::Q4_0, "q4_0"),
];

/// Unsupported types, for messages.
const OTHERS: &[(u32, &str)] = &[
    (3, "q4_1"),
    (6, "q5_0"),
    (7, "q5_1"),
    (9, "q8_1"),
    (10, "q2_K"),
    (11, "q3_K"),
    (12, "q4_K"),
    (13, "q5_K"),
    (14, "q6_K"),
    (15, "q8_K"),
];

impl Stored {
    /// The type with this number in ggml.
    ///
    /// # Errors
    /// Returns the name of the type if it is not supported.
    pub(super) fn of(kind: u32) -> Result<Self, String> {
        let found = KNOWN.iter().find(|(number, ..)| *number == kind);
        found.map(|(_, stored, _)| *stored).ok_or_else(|| {
            let other = OTHERS.iter().find(|(number, _)| *number == kind);
            other.map_or_else(|| format!("number {kind}"), |(_, name)| (*name).to_owned())
        })
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        KNOWN.iter().find(|(_, stored, _)| *stored == self).map_or("", |(.., name)| name)
    }

    /// The supported types, and what to do with a file of another.
    pub(super) fn words() -> String {
        "expected f32, f16, bf16, q8_0 or q4_0: convert the file to one of them, for example with llama.cpp's \
         `llama-quantize --pure --allow-requantize IN OUT q8_0`"
            .to_owned()
    }

    /// Elements per block.
    pub(super) fn n_block(self) -> usize {
        if matches!(self, Self::Q8_0 | Self::Q4_0) { 32 } else { 1 }
    }

    /// Size of `n` elements (complete blocks) in bytes; `None` on overflow.
    pub(super) fn n_bytes(self, n: usize) -> Option<usize> {
        (n / self.n_block()).checked_mul(match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
        })
    }

    /// The type of the kernels with the same values; `None` for float16 and float32.
    pub fn packed(self) -> Option<PackedType> {
        match self {
            Self::F32 | Self::F16 => None,
            Self::Bf16 => Some(PackedType::Bf16),
            Self::Q8_0 => Some(PackedType::Q8_0),
            Self::Q4_0 => Some(PackedType::Q4_0),
        }
    }

    /// Converts values to float32.
    pub(super) fn widen(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Self::F16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::Q8_0 => PackedType::Q8_0.widen_blocks(bytes, out),
            Self::Q4_0 => PackedType::Q4_0.widen_blocks(bytes, out),
        }
    }
}
