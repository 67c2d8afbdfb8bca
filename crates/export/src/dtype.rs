//! The dtypes that a model's matrices can be written in.

use candle_core::DType;
use candle_core::quantized::GgmlDType;

/// The dtype of a model's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// float32.
    F32,
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
    /// Blocks of 32 integers from −127 to 127 with one float16 scale.
    Q8_0,
    /// Blocks of 32 integers from −8 to 7 with one float16 scale.
    Q4_0,
}

impl Dtype {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The dtype of a folder's tensors.
    pub(crate) fn of(stored: DType) -> Self {
        match stored {
            DType::BF16 => Self::Bf16,
            DType::F16 => Self::F16,
            _ => Self::F32,
        }
    }

    /// candle's name for it as a plain dtype; `None` for blocks.
    pub(crate) fn plain(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::Bf16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
            Self::Q8_0 | Self::Q4_0 => None,
        }
    }

    /// candle's name for it in a GGUF file.
    pub(crate) fn ggml(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::Bf16 => GgmlDType::BF16,
            Self::F16 => GgmlDType::F16,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q4_0 => GgmlDType::Q4_0,
        }
    }

    /// The value of `general.file_type` for a file of such matrices (`llama_ftype` of llama.h).
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }

    /// The largest magnitude that it can represent; larger values become infinite.
    pub(crate) fn largest(self) -> f32 {
        const F16: f32 = 65_504.0;
        match self {
            Self::F32 => f32::MAX,
            // Larger float32 values round to infinity.
            Self::Bf16 => 3.389_531_3e38,
            Self::F16 => F16,
            Self::Q8_0 => F16 * 127.0,
            Self::Q4_0 => F16 * 8.0,
        }
    }
}
