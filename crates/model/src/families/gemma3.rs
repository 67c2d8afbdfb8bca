//! Gemma 3's text model: preset and folders (`Gemma3ForCausalLM`, `Gemma3TextForSequenceClassification`,
//! `Gemma3TextModel`; of a multimodal `Gemma3ForConditionalGeneration` the text part is read).

use serde_json::{Map, Value, json};

use super::decoder::LlamaLike;
use super::fields::Fields;
use super::heads::Classes;
use super::names::Names;
use super::rope::{Layered, fill_types, layer_types, read_layered};
use super::words::architecture;
use super::{About, Definition, Folder, Reading, llama};
use crate::config::{BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, QkNorm};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder { model_type: "gemma3_text", about: ABOUT, names: NAMES, read, write }),
};

/// Folders of the multimodal model, of which the text part is read; it is written as a separate model.
pub(super) static WITH_PICTURES: Folder = Folder {
    model_type: "gemma3",
    about: ABOUT,
    names: Names {
        prefix: "language_model.model.",
        other_prefixes: &["model.language_model."],
        first: &[("lm_head.weight", "language_model.lm_head.weight")],
        other_heads: &[
            "vision_tower.",
            "model.vision_tower.",
            "multi_modal_projector.",
            "model.multi_modal_projector.",
            "language_model.lm_head.",
            "lm_head.",
        ],
        ..NAMES
    },
    read: read_text_part,
    write: |_| None,
};

/// The description in README.
const ABOUT: About = About {
    classes: &["Gemma3ForCausalLM", "Gemma3TextForSequenceClassification", "Gemma3TextModel"],
    says: "windows and two rotary bases by `layer_types` or `sliding_window_pattern`; `query_pre_attn_scalar`; a scaled base; `final_logit_softcapping`; `use_bidirectional_attention`. Of a multimodal `gemma3` folder, the text part is read",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    let llama = llama::preset();
    ModelConfig {
        family: Family::Gemma3,
        vocab_size: 262_144,
        block: BlockKind::Sandwich,
        norm: NormKind::RmsPlusOne,
        norm_eps: 1e-6,
        rope_theta: LAYERED.full_theta,
        feed_forward: FeedForwardKind::GegluTanh,
        layers: LAYERED.pattern(6, 5, 512),
        qk_norm: QkNorm::Head,
        embedding_scale: (llama.d_model as f64).sqrt(),
        tied_head: true,
        ..llama
    }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "gemma3_text",
    classes: Classes {
        causal: "Gemma3ForCausalLM",
        bare: "Gemma3TextModel",
        classify: Some("Gemma3TextForSequenceClassification"),
    },
    silent: || ModelConfig {
        vocab_size: 262_208,
        n_layer: 26,
        n_head: 8,
        n_kv_head: 4,
        d_model: 2304,
        d_head: 256,
        d_ff: 9216,
        context_len: 131_072,
        ..preset()
    },
    pad_id: Some(0),
    activation: "hidden_activation",
    biases: (true, false),
    one_rope: false,
    even_heads: true,
};

const LAYERED: Layered = Layered {
    full_key: "rope_theta",
    full_theta: 1_000_000.0,
    local_key: "rope_local_base_freq",
    local_theta: 10_000.0,
    scales_local: false,
};

/// Gemma 3's tensors.
const NAMES: Names = Names {
    stale: llama::NAMES.stale,
    other_heads: llama::NAMES.other_heads,
    ..Names::new(
        "model.",
        "*layers",
        llama::OUTSIDE,
        &[
            ("attention.norm", "input_layernorm"),
            ("attention.query", "self_attn.q_proj"),
            ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"),
            ("attention.output", "self_attn.o_proj"),
            ("attention.query_norm", "self_attn.q_norm"),
            ("attention.key_norm", "self_attn.k_norm"),
            ("attention.branch_norm", "post_attention_layernorm"),
            ("feed_forward.norm", "pre_feedforward_layernorm"),
            ("feed_forward.gate", "mlp.gate_proj"),
            ("feed_forward.up", "mlp.up_proj"),
            ("feed_forward.down", "mlp.down_proj"),
            ("feed_forward.branch_norm", "post_feedforward_layernorm"),
        ],
    )
};

/// The config that `config.json` describes; problems go to its fields.
fn read(reading: &mut Reading) -> Option<ModelConfig> {
    let config = LIKE.read(reading)?;
    let fields = &mut reading.fields;
    let angles = read_layered(fields, &LAYERED, config.context_len);
    let every = fields.count("sliding_window_pattern").unwrap_or(6);
    let types = layer_types(fields, config.n_layer, |layer| !(layer + 1).is_multiple_of(every));
    if fields.is_null("sliding_window") && types.contains(&true) {
        fields.complain("sliding_window is null, but layer_types has windows".into());
    }
    let both_sides = fields.flag("use_bidirectional_attention").unwrap_or(false);
    // A bidirectional model can't predict the next token, although its head is tied.
    let is_bare = both_sides && architecture(fields) == Some(LIKE.classes.bare);
    let head = if is_bare { Head::Hidden { pooler: false } } else { config.head };
    let width = fields.count("sliding_window").unwrap_or(4096);
    let window = if both_sides { width / 2 + 1 } else { width };
    let scalar = fields.positive("query_pre_attn_scalar").unwrap_or(256.0);
    if let Some(cap) = fields.positive("attn_logit_softcapping") {
        let said =
            format!("attn_logit_softcapping = {cap} is not used, as transformers doesn't use it either");
        reading.warnings.push(said);
    }
    Some(ModelConfig {
        rope_theta: angles.theta,
        rope_scaling: angles.scaling,
        head,
        mask: if both_sides { MaskKind::Full } else { MaskKind::Causal },
        layers: fill_types(&types, window, &angles),
        attention_scale: (scalar != config.d_head as f64).then(|| scalar.sqrt().recip()),
        embedding_scale: (config.d_model as f64).sqrt(),
        logit_softcap: fields.positive("final_logit_softcapping"),
        ..config
    })
}

/// The text part of a config that has one.
fn read_text_part(reading: &mut Reading) -> Option<ModelConfig> {
    let Some(Value::Object(object)) = reading.fields.get("text_config") else {
        reading.fields.complain("has no \"text_config\", the config of the text part".into());
        return None;
    };
    let mut text = Reading {
        fields: Fields::new(object, "text_config."),
        has: reading.has,
        labels: Vec::new(),
        warnings: Vec::new(),
    };
    let config = read(&mut text);
    let Reading { fields, has: _, labels: _, mut warnings } = text;
    reading.fields.problems.extend(fields.problems);
    reading.warnings.append(&mut warnings);
    reading.warnings.push("only the text part is read; it is written as a separate model".into());
    config
}

/// The `config.json` of a model. A setting that it can't express shows when it is read back.
fn write(config: &ModelConfig) -> Option<Map<String, Value>> {
    let mut object = LIKE.write(config)?;
    let window = LAYERED.write(config, &mut object)?.unwrap_or(4096);
    let both_sides = config.mask == MaskKind::Full;
    let scalar = config.attention_scale.map_or(config.d_head as f64, |scale| (scale * scale).recip());
    // An integer is written as one: transformers requires it.
    let whole = scalar.round();
    let is_whole = config.attention_scale.is_none_or(|scale| whole.sqrt().recip() == scale);
    let every = (1..=config.n_layer).find(|n| {
        (0..config.n_layer).all(|at| ((at + 1) % n != 0) == config.layer_kind(at).window.is_some())
    });
    let mut say = |key: &str, value: Value| object.insert(key.into(), value);
    say("attn_logit_softcapping", Value::Null);
    say("final_logit_softcapping", json!(config.logit_softcap));
    say("query_pre_attn_scalar", if is_whole { json!(whole as u64) } else { json!(scalar) });
    say("sliding_window", json!(if both_sides { (window - 1) * 2 } else { window }));
    say("use_bidirectional_attention", json!(both_sides));
    if let Some(every) = every {
        say("sliding_window_pattern", json!(every));
    }
    Some(object)
}
