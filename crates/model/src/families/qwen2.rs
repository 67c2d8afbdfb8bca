//! Qwen2: preset and folders, `Qwen2ForCausalLM`, `Qwen2ForSequenceClassification` and `Qwen2Model`.

use super::decoder::LlamaLike;
use super::heads::Classes;
use super::windows::{read_windows, write_windows};
use super::{About, Definition, Folder, llama};
use crate::config::{Family, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "qwen2",
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
    classes: &["Qwen2ForCausalLM", "Qwen2ForSequenceClassification", "Qwen2Model"],
    says: "the same; biases on queries, keys and values; windows by `layer_types` or from `max_window_layers` on, if `use_sliding_window`",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Qwen2,
        vocab_size: 151_936,
        norm_eps: 1e-6,
        rope_theta: 1_000_000.0,
        attention_bias: true,
        attention_output_bias: Some(false),
        tied_head: true,
        ..llama::preset()
    }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "qwen2",
    classes: Classes {
        causal: "Qwen2ForCausalLM",
        bare: "Qwen2Model",
        classify: Some("Qwen2ForSequenceClassification"),
    },
    silent: || ModelConfig {
        n_layer: 32,
        n_head: 32,
        n_kv_head: 32,
        d_model: 4096,
        d_head: 0,
        d_ff: 22_016,
        context_len: 32_768,
        rope_theta: 10_000.0,
        tied_head: false,
        ..preset()
    },
    pad_id: None,
    activation: "hidden_act",
    biases: (false, false),
    one_rope: true,
    even_heads: false,
};
