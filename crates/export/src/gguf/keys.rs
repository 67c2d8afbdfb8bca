//! The keys of a GGUF file that say what a model is made of.

use candle_core::quantized::gguf_file::Value;
use vulpes_model::ModelConfig;
use vulpes_model::config::{BlockKind, MaskKind, NormKind, ScalingKind};

use super::Keys;
use super::architecture::Architecture;
use super::layers::Layers;
use crate::Request;
use crate::dtype::Dtype;

/// The keys that every file has.
pub(super) fn general(request: &Request, architecture: &str, dtype: Dtype) -> Keys {
    let text = |value: &str| Value::String(value.to_owned());
    vec![
        ("general.architecture".into(), text(architecture)),
        ("general.type".into(), text("model")),
        ("general.name".into(), text(&request.name)),
        ("general.file_type".into(), Value::U32(dtype.file_type())),
        ("general.quantization_version".into(), Value::U32(2)),
    ]
}

/// A whole number as llama.cpp reads it.
pub(super) fn count(n: usize) -> Value {
    Value::U32(u32::try_from(n).unwrap_or(u32::MAX))
}

fn float(x: f64) -> Value {
    Value::F32(x as f32)
}

/// The keys of a model.
pub(super) fn of_model(architecture: &Architecture, config: &ModelConfig, layers: &Layers) -> Keys {
    let mut keys = Keys::new();
    let name = architecture.name;
    let mut say = |key: &str, value: Value| keys.push((format!("{name}.{key}"), value));
    say("block_count", count(config.n_layer));
    say("context_length", count(config.context_len));
    say("embedding_length", count(config.d_model));
    say("feed_forward_length", count(config.d_ff));
    say("attention.head_count", count(config.n_head));
    say("attention.head_count_kv", count(config.n_kv_head));
    say(
        match config.norm {
            NormKind::Rms | NormKind::RmsPlusOne => "attention.layer_norm_rms_epsilon",
            NormKind::None | NormKind::Layer | NormKind::LayerNoBias => "attention.layer_norm_epsilon",
        },
        float(config.norm_eps),
    );
    say("vocab_size", count(config.vocab_size));
    if architecture.own_head_width {
        say("attention.key_length", count(config.d_head));
        say("attention.value_length", count(config.d_head));
    }
    if architecture.mask == MaskKind::Full {
        say("attention.causal", Value::Bool(false));
    }
    if matches!(name, "gptneox") {
        say("use_parallel_residual", Value::Bool(config.block == BlockKind::Parallel));
    }
    if let Some(rope) = layers.rope {
        say("rope.dimension_count", count(config.rotary_widths().0));
        say("rope.freq_base", float(rope.theta));
        match rope.scaling {
            Some(scaling) if scaling.kind == ScalingKind::Linear => {
                say("rope.scaling.type", Value::String("linear".into()));
                say("rope.scaling.factor", float(scaling.factor));
            }
            _ => say("rope.scaling.type", Value::String("none".into())),
        }
    }
    if let Some(theta) = layers.local_theta {
        say("rope.freq_base_swa", float(theta));
    }
    if let Some((window, pattern)) = &layers.window {
        say("attention.sliding_window", count(*window));
        let pattern = pattern.iter().map(|has| Value::Bool(*has)).collect();
        say("attention.sliding_window_pattern", Value::Array(pattern));
    }
    if name == "granite" {
        say("attention.scale", float(config.scale()));
        say("embedding_scale", float(config.embedding_scale));
        say("residual_scale", float(config.residual_multiplier));
        say("logit_scale", float(config.logit_divisor));
    }
    if let Some(cap) = config.logit_softcap {
        say("final_logit_softcapping", float(cap));
    }
    keys
}
