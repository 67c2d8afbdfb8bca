//! The architectures of llama.cpp that our families go to, and what each can say of a model.
//!
//! A file names an architecture and a few numbers; all else is llama.cpp's code for it
//! ([llama.cpp](https://github.com/ggml-org/llama.cpp), `src/models/`).

use vulpes_model::config::{BlockKind, Family, FeedForwardKind, MaskKind, NormKind, Positions, QkNorm};

use crate::error::Error;

/// Which projections have biases there.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Biases {
    /// All.
    All,
    /// Those that a file brings.
    Any,
    /// Of queries, keys and values, where a file brings them.
    Inputs,
}

/// The factors on embedding, scores, branches and logits.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Factors {
    /// None but `1 / sqrt(d_head)` on the scores.
    Plain,
    /// Gemma's: `sqrt(d)` on the embedding, a bound on the logits.
    Gemma,
    /// Granite's: four numbers.
    Granite,
}

/// How layers may differ.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Differ {
    /// Not at all, and there are no windows.
    No,
    /// Every fourth goes without positions.
    FourthWithoutPositions,
    /// Some see a window only, with a rotary base of their own; `both_sides`: the window reaches to both sides.
    Windows { both_sides: bool },
}

/// What a head may be.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum HeadForm {
    /// The next token. `own`: it must have a matrix of its own; `bias`: and a bias.
    Next { own: bool, bias: bool },
    /// None, or a classifier; that of masked tokens is left aside.
    Encoder,
}

/// One of llama.cpp's architectures.
pub(super) struct Architecture {
    /// What `general.architecture` says.
    pub(super) name: &'static str,
    pub(super) families: &'static [Family],
    pub(super) blocks: &'static [BlockKind],
    pub(super) norm: NormKind,
    pub(super) positions: &'static [Positions],
    pub(super) activations: &'static [FeedForwardKind],
    /// The activation that llama.cpp computes, where a model's is only near to it.
    pub(super) computes: Option<(FeedForwardKind, &'static str)>,
    pub(super) mask: MaskKind,
    pub(super) qk_norm: QkNorm,
    pub(super) biases: Biases,
    /// Whether the width of a head is free of `d_model / n_head`.
    pub(super) own_head_width: bool,
    /// Whether a part of a head may be turned only.
    pub(super) rotates_part: bool,
    /// Whether there is a tensor of factors on the rotary frequencies.
    pub(super) has_frequency_factors: bool,
    /// Whether rotary positions turn neighboring channels there, not those half a head apart.
    pub(super) turns_neighbors: bool,
    pub(super) factors: Factors,
    pub(super) embedding_norm: Option<bool>,
    pub(super) differ: Differ,
    pub(super) head: HeadForm,
    /// Modules that have another name there than those of [`super::tensors`].
    pub(super) names: &'static [(&'static str, &'static str)],
}

/// What most have in common: Llama's.
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

/// Llama's with channels that are turned half a head apart.
const QWEN: Architecture =
    Architecture { biases: Biases::Inputs, has_frequency_factors: false, turns_neighbors: false, ..LLAMA };

/// GPT-2's, and what those after it have otherwise.
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

pub(super) static ARCHITECTURES: &[Architecture] = &[
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

impl Architecture {
    /// The error of a model that this architecture can't say.
    pub(super) fn refuses(&self, reasons: Vec<String>) -> Error {
        Error::Architecture { form: format!("llama.cpp's {}", self.name), reasons }
    }
}
