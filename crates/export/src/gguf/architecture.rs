//! The architectures of llama.cpp that our families go to, and what each can say of a model.
//!
//! A file names an architecture and a few numbers; all else is llama.cpp's code for it
//! ([llama.cpp](https://github.com/ggml-org/llama.cpp), `src/models/`). So a model goes there only if [`Architecture::said`],
//! the config that such a file amounts to, is its own.

use serde_json::{Map, Value};
use vulpes_model::ModelConfig;
use vulpes_model::config::{BlockKind, Family, FeedForwardKind, MaskKind, NormKind, Positions, QkNorm};

use crate::error::{Error, Result};

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
    families: &'static [Family],
    blocks: &'static [BlockKind],
    pub(super) norm: NormKind,
    positions: &'static [Positions],
    activations: &'static [FeedForwardKind],
    /// The activation that llama.cpp computes, where a model's is only near to it.
    computes: Option<(FeedForwardKind, &'static str)>,
    pub(super) mask: MaskKind,
    qk_norm: QkNorm,
    biases: Biases,
    /// Whether the width of a head is free of `d_model / n_head`.
    pub(super) own_head_width: bool,
    /// Whether a part of a head may be turned only.
    rotates_part: bool,
    /// Whether there is a tensor of factors on the rotary frequencies.
    pub(super) has_frequency_factors: bool,
    /// Whether rotary positions turn neighboring channels there, not those half a head apart.
    pub(super) turns_neighbors: bool,
    factors: Factors,
    embedding_norm: Option<bool>,
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

static ARCHITECTURES: &[Architecture] = &[
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
    /// The architecture that says what `config` is.
    ///
    /// # Errors
    /// If there is none for its family, or that can't say all of it: everything is named.
    pub(super) fn of(config: &ModelConfig) -> Result<&'static Self> {
        let Some(found) = ARCHITECTURES.iter().find(|known| known.families.contains(&config.family)) else {
            let known: Vec<String> =
                ARCHITECTURES.iter().flat_map(|known| known.families).map(|family| word(family)).collect();
            let reason = format!(
                "it has no architecture for {}; for {} it has",
                word(&config.family),
                known.join(", ")
            );
            return Err(Error::Architecture { form: "llama.cpp".into(), reasons: vec![reason] });
        };
        let reasons = differences(config, &found.said(config));
        match reasons.is_empty() {
            true => Ok(found),
            false => Err(found.refuses(reasons)),
        }
    }

    /// The error of a model that this architecture can't say.
    pub(super) fn refuses(&self, reasons: Vec<String>) -> Error {
        Error::Architecture { form: format!("llama.cpp's {}", self.name), reasons }
    }

    /// What llama.cpp computes otherwise than this model is.
    pub(super) fn notes(&self, config: &ModelConfig) -> Option<String> {
        let (computed, words) = self.computes.filter(|(computed, _)| *computed != config.feed_forward)?;
        debug_assert!(self.activations.contains(&computed));
        Some(format!("llama.cpp computes {words}, so its numbers differ a little from the model's"))
    }

    /// The config that a file of this architecture amounts to, with the numbers of `config` where a file has a key for them.
    fn said(&self, config: &ModelConfig) -> ModelConfig {
        let ModelConfig {
            family,
            vocab_size,
            n_layer,
            n_head,
            n_kv_head,
            d_model,
            d_head,
            d_ff,
            context_len,
            block,
            norm: _,
            norm_eps,
            positions,
            pad_id,
            relative_bias: _,
            rope_theta,
            rotary_fraction,
            rope_scaling,
            feed_forward,
            mask: _,
            window,
            layers,
            attention_scale: _,
            qk_norm: _,
            attention_bias,
            attention_output_bias,
            feed_forward_bias,
            residual_multiplier,
            embedding_scale,
            embedding_norm: _,
            skip_first_norm,
            tied_head,
            n_token_type,
            head_bias,
            head_dense_bias,
            head_activation,
            classifier,
            pooling,
            logit_divisor,
            logit_softcap,
            head,
            dropout,
            init_std,
        } = config.clone();
        let width = if self.own_head_width { d_head } else { d_model / n_head.max(1) };
        let (gemma, granite) = (self.factors == Factors::Gemma, self.factors == Factors::Granite);
        ModelConfig {
            family,
            vocab_size,
            n_layer,
            n_head,
            n_kv_head: if self.mask == MaskKind::Full { n_head } else { n_kv_head },
            d_model,
            d_head: width,
            d_ff,
            context_len,
            block: one_of(self.blocks, block),
            norm: self.norm,
            norm_eps,
            positions: one_of(self.positions, positions),
            pad_id,
            relative_bias: None,
            rope_theta,
            rotary_fraction: if self.rotates_part { rotary_fraction } else { 1.0 },
            rope_scaling,
            feed_forward: one_of(self.activations, feed_forward),
            mask: self.mask,
            window,
            layers,
            attention_scale: self.attention_scale(config),
            qk_norm: self.qk_norm,
            attention_bias: attention_bias || self.biases == Biases::All,
            attention_output_bias: match self.biases {
                Biases::All => attention_output_bias.filter(|has| *has),
                Biases::Any => attention_output_bias,
                Biases::Inputs if attention_bias => Some(false),
                Biases::Inputs => attention_output_bias.filter(|has| !has),
            },
            feed_forward_bias: match self.biases {
                Biases::All => true,
                Biases::Any => feed_forward_bias,
                Biases::Inputs => false,
            },
            residual_multiplier: if granite { residual_multiplier } else { 1.0 },
            embedding_scale: match self.factors {
                Factors::Plain => 1.0,
                Factors::Gemma => (d_model as f64).sqrt(),
                Factors::Granite => embedding_scale,
            },
            embedding_norm: self.embedding_norm,
            skip_first_norm: skip_first_norm && self.name == "modern-bert",
            tied_head,
            n_token_type: if self.head == HeadForm::Encoder { n_token_type } else { 0 },
            head_bias: match self.head {
                HeadForm::Next { bias: true, .. } => Some(true),
                HeadForm::Next { .. } => head_bias.filter(|has| !has),
                HeadForm::Encoder => head_bias,
            },
            head_dense_bias,
            head_activation,
            classifier,
            pooling,
            logit_divisor: if granite { logit_divisor } else { 1.0 },
            logit_softcap: logit_softcap.filter(|_| gemma),
            head,
            dropout,
            init_std,
        }
    }

    /// The factor on q·k as a config spells it, of what llama.cpp takes.
    fn attention_scale(&self, config: &ModelConfig) -> Option<f64> {
        let own = config.attention_scale;
        let wide = (config.d_model as f64 / config.n_head.max(1) as f64).sqrt().recip();
        match self.factors {
            Factors::Granite => own,
            // Known by its number of layers: Gemma 3 27B.
            Factors::Gemma if config.n_layer == 62 => own.filter(|scale| near(*scale, wide)).or(Some(wide)),
            Factors::Gemma | Factors::Plain => {
                own.filter(|scale| near(*scale, (config.d_head as f64).sqrt().recip()))
            }
        }
    }
}

/// Whether two factors are the same but for how they were written.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

/// `wanted` if it is known, else the first that is.
fn one_of<T: Copy + PartialEq>(known: &[T], wanted: T) -> T {
    match known.first() {
        Some(first) if !known.contains(&wanted) => *first,
        _ => wanted,
    }
}

fn word(family: &Family) -> String {
    serde_json::to_value(family).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Every key in which two configs differ, in words.
fn differences(own: &ModelConfig, said: &ModelConfig) -> Vec<String> {
    let table = |config: &ModelConfig| match serde_json::to_value(config) {
        Ok(Value::Object(table)) => table,
        _ => Map::new(),
    };
    let (own, said) = (table(own), table(said));
    let shown = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
    let mut keys: Vec<&String> =
        own.keys().chain(said.keys().filter(|key| !own.contains_key(*key))).collect();
    keys.retain(|key| own.get(*key) != said.get(*key));
    keys.iter()
        .map(|key| format!("{key} = {}, where it has {}", shown(own.get(*key)), shown(said.get(*key))))
        .collect()
}
