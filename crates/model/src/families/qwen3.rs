//! Qwen3: preset and folders, `Qwen3ForCausalLM`, `Qwen3ForSequenceClassification` and `Qwen3Model`.

use super::decoder::LlamaLike;
use super::heads::Classes;
use super::windows::{read_windows, write_windows};
use super::{About, Definition, Folder, llama};
use crate::config::{Family, ModelConfig, QkNorm};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "qwen3",
        about: ABOUT,
        names: llama::NAMES,
        read: |reading| {
            let mut config = LIKE.read(reading)?;
            config.layers = read_windows(&mut reading.fields, config.n_layer);
            Some(config)
        },
        write: |config| write_windows(config, LIKE.write(config)?),
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["Qwen3ForCausalLM", "Qwen3ForSequenceClassification", "Qwen3Model"],
    says: "the same; RMS norms of the queries and keys of each head",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen3,
        vocab_size: 151_936,
        norm_eps: 1e-6,
        rope_theta: 1_000_000.0,
        qk_norm: QkNorm::Head,
        tied_head: true,
        ..llama::preset()
    }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "qwen3",
    classes: Classes {
        causal: "Qwen3ForCausalLM",
        bare: "Qwen3Model",
        classify: Some("Qwen3ForSequenceClassification"),
    },
    silent: || ModelConfig {
        n_layer: 32,
        n_head: 32,
        n_kv_head: 32,
        d_model: 4096,
        d_head: 128,
        d_ff: 22_016,
        context_len: 32_768,
        rope_theta: 10_000.0,
        tied_head: false,
        ..preset()
    },
    pad_id: None,
    activation: "hidden_act",
    biases: (true, false),
    one_rope: true,
    even_heads: false,
};
