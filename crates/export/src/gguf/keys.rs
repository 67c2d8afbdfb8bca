//! The keys of a GGUF file that describe the model.

use candle_core::quantized::gguf_file::Value;
use vulpes_model::ModelConfig;
use vulpes_model::config::{BlockKind, MaskKind, ScalingKind};
use vulpes_model::gguf::{Architecture, keys, unsaid};

use super::Keys;
use super::layers::Layers;
use crate::Request;
use crate::dtype::Dtype;

/// The keys that every file has.
pub(super) fn general(request: &Request, architecture: &str, dtype: Dtype) -> Keys {
    let text = |value: &str| Value::String(value.to_owned());
    vec![
        (keys::ARCHITECTURE.into(), text(architecture)),
        (keys::TYPE.into(), text("model")),
        ("general.name".into(), text(&request.name)),
        ("general.file_type".into(), Value::U32(dtype.file_type())),
        ("general.quantization_version".into(), Value::U32(2)),
    ]
}

/// An integer as llama.cpp reads it.
pub(super) fn count(n: usize) -> Value {
    Value::U32(u32::try_from(n).unwrap_or(u32::MAX))
}

fn float(x: f64) -> Value {
    Value::F32(x as f32)
}

/// The keys of a model.
pub(super) fn of_model(architecture: &Architecture, config: &ModelConfig, layers: &Layers) -> Keys {
    let mut said = Keys::new();
    let name = architecture.name;
    let mut say = |key: &str, value: Value| said.push((format!("{name}.{key}"), value));
    say(keys::BLOCKS, count(config.n_layer));
    say(keys::CONTEXT, count(config.context_len));
    say(keys::WIDTH, count(config.d_model));
    say(keys::FEED_FORWARD, count(config.d_ff));
    say(keys::HEADS, count(config.n_head));
    say(keys::KV_HEADS, count(config.n_kv_head));
    say(keys::norm_epsilon(config.norm), float(config.norm_eps));
    say(keys::VOCABULARY, count(config.vocab_size));
    if architecture.own_head_width {
        say(keys::KEY_WIDTH, count(config.d_head));
        say(keys::VALUE_WIDTH, count(config.d_head));
    }
    if architecture.mask == MaskKind::Full {
        say(keys::CAUSAL, Value::Bool(false));
    }
    if matches!(name, "gptneox") {
        say(keys::PARALLEL, Value::Bool(config.block == BlockKind::Parallel));
    }
    if let Some(rope) = layers.rope {
        say(keys::ROPE_WIDTH, count(config.rotary_widths().0));
        say(keys::ROPE_BASE, float(rope.theta));
        match rope.scaling {
            Some(scaling) if scaling.kind == ScalingKind::Linear => {
                say(keys::ROPE_SCALING, Value::String("linear".into()));
                say(keys::ROPE_FACTOR, float(scaling.factor));
            }
            _ => say(keys::ROPE_SCALING, Value::String("none".into())),
        }
    }
    if let Some(theta) = layers.local_theta {
        say(keys::LOCAL_BASE, float(theta));
    }
    if let Some((window, pattern)) = &layers.window {
        say(keys::WINDOW, count(*window));
        let pattern = pattern.iter().map(|has| Value::Bool(*has)).collect();
        say(keys::WINDOW_PATTERN, Value::Array(pattern));
    }
    if name == "granite" {
        say(keys::SCORE_SCALE, float(config.scale()));
        say(keys::EMBEDDING_SCALE, float(config.embedding_scale));
        say(keys::RESIDUAL_SCALE, float(config.residual_multiplier));
        say(keys::LOGIT_SCALE, float(config.logit_divisor));
    }
    if let Some(cap) = config.logit_softcap {
        say(keys::LOGIT_CAP, float(cap));
    }
    let more = unsaid(architecture, config);
    if !more.is_empty() {
        let text = serde_json::Value::Object(more).to_string();
        said.push((keys::UNSAID.into(), Value::String(text)));
    }
    said
}
