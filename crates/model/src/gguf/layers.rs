//! Per-layer settings: attention windows, rotary base and RoPE scaling.

use super::FREQUENCIES;
use super::architecture::{Architecture, Differ};
use super::container::File;
use super::keys;
use super::said::Said;
use crate::config::{LayerOverride, ModelConfig, Positions, RopeScaling, ScalingKind};

/// Returns the divisor of each rotary frequency under Llama 3.1's scaling, for exponents relative to `width` channels
/// and `n_pair` rotated pairs.
pub fn frequency_factors(theta: f64, scaling: RopeScaling, (width, n_pair): (usize, usize)) -> Vec<f32> {
    let factor = |i: usize| {
        let theta = theta.powf(-2.0 * i as f64 / width as f64);
        (theta / scaling.scaled(theta)) as f32
    };
    (0..n_pair).map(factor).collect()
}

/// Reads positions and windows into a config.
pub(super) fn read(architecture: &Architecture, file: &File, said: &mut Said, config: &mut ModelConfig) {
    if config.positions == Positions::Rotary {
        rotary(architecture, file, said, config);
    }
    let window = said.count(keys::WINDOW).filter(|window| *window > 0);
    match (architecture.differ, window) {
        (Differ::No | Differ::FourthWithoutPositions, Some(window)) => said.problems.push(format!(
            "has a window of {window} tokens, which is not supported for {}: use the model's folder instead",
            architecture.name
        )),
        (Differ::No, None) | (Differ::Windows { .. }, None) => {}
        (Differ::FourthWithoutPositions, None) => {
            let bag = LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() };
            let layer = |at: usize| if (at + 1).is_multiple_of(4) { bag } else { LayerOverride::default() };
            config.layers = (0..config.n_layer).map(layer).collect();
        }
        (Differ::Windows { both_sides }, Some(window)) => windows(said, config, window, both_sides),
    }
}

fn windows(said: &mut Said, config: &mut ModelConfig, window: usize, both_sides: bool) {
    // llama.cpp's window of an encoder covers both sides together.
    let window = if both_sides { window / 2 + 1 } else { window };
    // The default: every sixth layer of Gemma 3 and every third of ModernBERT attends globally.
    let plain = |at: usize| if both_sides { !at.is_multiple_of(3) } else { at % 6 != 5 };
    let pattern =
        said.flags(keys::WINDOW_PATTERN).unwrap_or_else(|| (0..config.n_layer).map(plain).collect());
    if pattern.len() != config.n_layer {
        let (n, layers) = (pattern.len(), config.n_layer);
        said.problems.push(format!("{} has {n} entries for {layers} layers", keys::WINDOW_PATTERN));
        return;
    }
    let local = said.number(keys::LOCAL_BASE).unwrap_or(10_000.0);
    let near = LayerOverride {
        window: Some(window),
        rope_theta: Some(local),
        rope_scaled: config.rope_scaling.map(|_| false),
        ..LayerOverride::default()
    };
    config.layers = pattern.iter().map(|has| if *has { near } else { LayerOverride::default() }).collect();
}

fn rotary(architecture: &Architecture, file: &File, said: &mut Said, config: &mut ModelConfig) {
    config.rope_theta = said.number(keys::ROPE_BASE).unwrap_or(10_000.0);
    let width = said.count(keys::ROPE_WIDTH).unwrap_or(config.d_head);
    config.rotary_fraction = 1.0;
    if architecture.turns_neighbors && config.d_head % 2 == 1 {
        let d_head = config.d_head;
        said.problems.push(format!(
            "has heads of {d_head} channels; expected an even number, since they are rotated in pairs"
        ));
    }
    if width != config.d_head {
        let name = architecture.name;
        let fraction = width as f64 / config.d_head.max(1) as f64;
        config.rotary_fraction = fraction;
        // The rounded quotient may be slightly too small.
        if config.rotary_widths().0 != width {
            config.rotary_fraction = fraction.next_up();
        }
        if !architecture.rotates_part || width > config.d_head || config.rotary_widths().0 != width {
            let d_head = config.d_head;
            said.problems.push(format!(
                "{name}.{} is {width}; expected {d_head}, the width of a head",
                keys::ROPE_WIDTH
            ));
        }
    }
    match said.text(keys::ROPE_SCALING) {
        None | Some("none") => {}
        Some("linear") => {
            let factor = said.number(keys::ROPE_FACTOR);
            config.rope_scaling = Some(RopeScaling::linear(said.needed(keys::ROPE_FACTOR, factor)));
        }
        Some(other) => said.problems.push(format!(
            "{}.{} is {other:?}; expected \"none\" or \"linear\"",
            architecture.name,
            keys::ROPE_SCALING
        )),
    }
    let Some(entry) = file.tensors().get(FREQUENCIES) else { return };
    let n: usize = entry.shape.iter().product();
    if n != config.rotary_widths().1 || !architecture.has_frequency_factors {
        said.problems.push(format!("the tensor {FREQUENCIES} has {n} factors, which is not supported here"));
        return;
    }
    let mut found = vec![0.0; n];
    entry.stored.widen(file.all(entry), &mut found);
    if found.iter().all(|factor| *factor == 1.0) {
        return;
    }
    // A file has only the resulting factors; Llama 3.1 and later share all scaling parameters except `factor`.
    let factor = found.iter().fold(1.0f32, |most, factor| most.max(*factor));
    let kind = ScalingKind::Llama3;
    let scaling =
        config.rope_scaling.unwrap_or(RopeScaling { kind, ..RopeScaling::linear(f64::from(factor)) });
    let wanted = frequency_factors(config.rope_theta, scaling, config.rotary_widths());
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs();
    match found.iter().zip(&wanted).all(is_near) {
        true => config.rope_scaling = Some(scaling),
        false => said.problems.push(format!(
            "the tensor {FREQUENCIES} does not match Llama 3.1's RoPE scaling: use the model's folder \
             instead"
        )),
    }
}
