//! The supported architectures of llama.cpp, and which models each can represent.
//!
//! A file names an architecture and a few numbers; everything else is llama.cpp's code for it
//! ([llama.cpp](https://github.com/ggml-org/llama.cpp), `src/models/`).

use crate::config::{BlockKind, Family, FeedForwardKind, MaskKind, NormKind, Positions, QkNorm};

/// Which projections have biases in llama.cpp.
#[derive(Clone, Copy, PartialEq)]
pub enum Biases {
    /// All.
    All,
    /// Those in the file.
    Any,
    /// Of queries, keys and values, if they are in the file.
    Inputs,
}

/// The factors on embedding, scores, branches and logits.
#[derive(Clone, Copy, PartialEq)]
pub enum Factors {
    /// Only `1 / sqrt(d_head)` on the scores.
    Plain,
    /// Gemma's: `sqrt(d)` on the embedding, a cap on the logits.
    Gemma,
    /// Granite's: four factors.
    Granite,
}

/// How layers may differ.
#[derive(Clone, Copy, PartialEq)]
pub enum Differ {
    /// Not at all, and there are no windows.
    No,
    /// Every fourth has no positions.
    FourthWithoutPositions,
    /// Some have a window, with their own rotary base.
    Windows {
        /// Whether the window extends to both sides.
        both_sides: bool,
    },
}

/// The supported heads.
#[derive(Clone, Copy, PartialEq)]
pub enum HeadForm {
    /// The next token.
    Next {
        /// Whether it must have its own matrix.
        own: bool,
        /// Whether it has a bias.
        bias: bool,
    },
    /// None, or a classifier; that of masked tokens is left out.
    Encoder,
}

/// One of llama.cpp's architectures.
pub struct Architecture {
    /// The value of `general.architecture`.
    pub name: &'static str,
    /// The families that are written to it; files are read as the first.
    pub families: &'static [Family],
    /// The order of norm and residual; of several, the first unless a file says otherwise.
    pub blocks: &'static [BlockKind],
    /// The kind of norm.
    pub norm: NormKind,
    /// The kinds of positions.
    pub positions: &'static [Positions],
    /// The kinds of feed-forward sublayers.
    pub activations: &'static [FeedForwardKind],
    /// The activation that llama.cpp computes, if it only approximates the model's.
    pub computes: Option<(FeedForwardKind, &'static str)>,
    /// The attention mask.
    pub mask: MaskKind,
    /// The norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Which projections have biases.
    pub biases: Biases,
    /// Whether the width of a head is independent of `d_model / n_head`.
    pub own_head_width: bool,
    /// Whether only a part of a head may be rotated.
    pub rotates_part: bool,
    /// Whether there is a tensor of factors on the rotary frequencies.
    pub has_frequency_factors: bool,
    /// Whether rotary positions rotate adjacent channels in llama.cpp, not those half a head apart.
    pub turns_neighbors: bool,
    /// The factors on embedding, scores, branches and logits.
    pub factors: Factors,
    /// Whether there is a norm after the embedding, unless the block decides it.
    pub embedding_norm: Option<bool>,
    /// How layers may differ.
    pub differ: Differ,
    /// The kind of head.
    pub head: HeadForm,
    /// Modules with other names in llama.cpp than those of [`super::targets`].
    pub names: &'static [(&'static str, &'static str)],
}

/// Llama's, which most are based on.
const LLAMA: Architecture = Architecture {
    name: "llama",
    families: &[Family::Llama],
    blocks: &[BlockKind::Pre],
    norm: NormKind::Rms,
    positions: &[Positions::Rotary],
    activations: &[FeedForwardKind::Swiglu],
    computes: None,
    mask: MaskKind::Causal,
    qk_norm: QkNorm::None,
    biases: Biases::Any,
    own_head_width: true,
    rotates_part: false,
    has_frequency_factors: true,
    turns_neighbors: true,
    factors: Factors::Plain,
    embedding_norm: None,
    differ: Differ::No,
    head: HeadForm::Next { own: false, bias: false },
    names: &[],
};

/// Llama's with rotation of channels half a head apart.
const QWEN: Architecture =
    Architecture { biases: Biases::Inputs, has_frequency_factors: false, turns_neighbors: false, ..LLAMA };

/// GPT-2's, and the differences of those after it.
const GPT2: Architecture = Architecture {
    name: "gpt2",
    families: &[Family::Gpt2],
    norm: NormKind::Layer,
    positions: &[Positions::Learned],
    activations: &[FeedForwardKind::GeluTanh, FeedForwardKind::GeluErf],
    computes: Some((FeedForwardKind::GeluTanh, "GELU by tanh")),
    biases: Biases::All,
    own_head_width: false,
    names: JOINED,
    ..QWEN
};

const JOINED: &[(&str, &str)] =
    &[("attention.query", "attn_qkv"), ("attention.key", "attn_qkv"), ("attention.value", "attn_qkv")];

/// Every architecture that is written and read.
pub static ARCHITECTURES: &[Architecture] = &[
    LLAMA,
    GPT2,
    Architecture { name: "qwen2", families: &[Family::Qwen2], own_head_width: false, ..QWEN },
    Architecture { name: "qwen3", families: &[Family::Qwen3], qk_norm: QkNorm::Head, ..QWEN },
    Architecture {
        name: "gemma3",
        families: &[Family::Gemma3],
        blocks: &[BlockKind::Sandwich],
        norm: NormKind::RmsPlusOne,
        activations: &[FeedForwardKind::GegluTanh],
        qk_norm: QkNorm::Head,
        factors: Factors::Gemma,
        differ: Differ::Windows { both_sides: false },
        ..QWEN
    },
    Architecture {
        name: "olmo2",
        families: &[Family::Olmo2],
        blocks: &[BlockKind::Reordered],
        qk_norm: QkNorm::Whole,
        own_head_width: false,
        head: HeadForm::Next { own: true, bias: false },
        ..QWEN
    },
    Architecture {
        name: "smollm3",
        families: &[Family::Smollm3],
        biases: Biases::Inputs,
        has_frequency_factors: false,
        differ: Differ::FourthWithoutPositions,
        ..LLAMA
    },
    Architecture { name: "granite", families: &[Family::Granite], factors: Factors::Granite, ..LLAMA },
    Architecture {
        name: "gptneox",
        families: &[Family::GptNeox],
        blocks: &[BlockKind::Parallel, BlockKind::Pre],
        positions: &[Positions::Rotary],
        rotates_part: true,
        head: HeadForm::Next { own: true, bias: false },
        ..GPT2
    },
    Architecture {
        name: "phi2",
        families: &[Family::Phi],
        blocks: &[BlockKind::ParallelShared],
        positions: &[Positions::Rotary],
        rotates_part: true,
        head: HeadForm::Next { own: true, bias: true },
        names: &[],
        ..GPT2
    },
    Architecture {
        name: "bert",
        families: &[Family::Bert, Family::Roberta, Family::XlmRoberta, Family::Distilbert],
        blocks: &[BlockKind::Post],
        positions: &[Positions::Learned, Positions::Counted],
        mask: MaskKind::Full,
        head: HeadForm::Encoder,
        names: &[("attention.norm", "attn_output_norm"), ("feed_forward.norm", "layer_output_norm")],
        ..GPT2
    },
    Architecture {
        name: "modern-bert",
        families: &[Family::Modernbert],
        norm: NormKind::LayerNoBias,
        activations: &[FeedForwardKind::GegluTanh, FeedForwardKind::GegluErf],
        computes: Some((FeedForwardKind::GegluTanh, "GELU by tanh")),
        mask: MaskKind::Full,
        biases: Biases::Inputs,
        own_head_width: false,
        embedding_norm: Some(true),
        differ: Differ::Windows { both_sides: true },
        head: HeadForm::Encoder,
        names: &[
            ("attention.query", "attn_qkv"),
            ("attention.key", "attn_qkv"),
            ("attention.value", "attn_qkv"),
            ("feed_forward.gate", "ffn_up"),
        ],
        ..QWEN
    },
];
