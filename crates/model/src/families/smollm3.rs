//! SmolLM3: preset and folders, `SmolLM3ForCausalLM`, `SmolLM3ForSequenceClassification` and `SmolLM3Model`.

use serde_json::{Value, json};

use super::decoder::LlamaLike;
use super::fields::Fields;
use super::heads::Classes;
use super::rope::layer_types;
use super::windows::{used_window, with_windows, write_windows};
use super::{About, Definition, Folder, llama};
use crate::config::{Family, LayerOverride, ModelConfig, Positions};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "smollm3",
        about: ABOUT,
        names: llama::NAMES,
        read: |reading| {
            let mut config = LIKE.read(reading)?;
            config.layers = read_layers(&mut reading.fields, config.n_layer);
            Some(config)
        },
        write: |config| {
            let mut object = write_windows(config, LIKE.write(config)?)?;
            let rotates = |layer| u8::from(config.layer_kind(layer).rope.is_some());
            let no_rope: Value = (0..config.n_layer).map(rotates).collect();
            object.insert("no_rope_layers".into(), no_rope);
            object.insert("no_rope_layer_interval".into(), json!(4));
            Some(object)
        },
    }),
};

const WITHOUT_POSITIONS: LayerOverride =
    LayerOverride { window: None, rope_theta: None, positions: Some(Positions::None), rope_scaled: None };
const PLAIN: LayerOverride =
    LayerOverride { window: None, rope_theta: None, positions: None, rope_scaled: None };

/// The description in README.
const ABOUT: About = About {
    classes: &["SmolLM3ForCausalLM", "SmolLM3ForSequenceClassification", "SmolLM3Model"],
    says: "as `llama`; layers without positions; windows by `layer_types`",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Smollm3,
        vocab_size: 128_256,
        norm_eps: 1e-6,
        rope_theta: 2_000_000.0,
        layers: vec![PLAIN, PLAIN, PLAIN, WITHOUT_POSITIONS],
        tied_head: true,
        ..llama::preset()
    }
}

const LIKE: LlamaLike = LlamaLike {
    model_type: "smollm3",
    classes: Classes {
        causal: "SmolLM3ForCausalLM",
        bare: "SmolLM3Model",
        classify: Some("SmolLM3ForSequenceClassification"),
    },
    silent: || ModelConfig {
        n_layer: 36,
        n_head: 16,
        n_kv_head: 4,
        d_model: 2048,
        d_head: 0,
        d_ff: 11_008,
        context_len: 32_768,
        ..preset()
    },
    pad_id: Some(128_004),
    activation: "hidden_act",
    biases: (true, true),
    one_rope: true,
    even_heads: false,
};

/// `no_rope_layers` has a 1 for a layer *with* rotary positions; without `layer_types`, windows go to the others.
fn read_layers(fields: &mut Fields, n_layer: usize) -> Vec<LayerOverride> {
    let interval = fields.count("no_rope_layer_interval").unwrap_or(4);
    let rotates: Vec<bool> = match fields.list("no_rope_layers") {
        Some(list) => {
            if list.len() < n_layer {
                fields.complain(format!("no_rope_layers has {} entries for {n_layer} layers", list.len()));
            }
            list.iter().take(n_layer).map(|value| value.as_u64() != Some(0)).collect()
        }
        None => (1..=n_layer.min(1 << 16)).map(|number| !number.is_multiple_of(interval)).collect(),
    };
    let window = used_window(fields, None);
    let rotates_at = |layer: usize| rotates.get(layer).copied().unwrap_or(true);
    let types = layer_types(fields, n_layer, |layer| window.is_some() && !rotates_at(layer));
    let mut layers = with_windows(fields, &types, window);
    for (_, own) in layers.iter_mut().enumerate().filter(|(layer, _)| !rotates_at(*layer)) {
        own.positions = Some(Positions::None);
    }
    layers
}
