//! Differences between layers: windows and rotary positions.

use candle_core::Device;
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor};
use vulpes_model::ModelConfig;
use vulpes_model::config::{LayerKind, Rope, ScalingKind};
use vulpes_model::gguf::{Architecture, Differ, frequency_factors};

use super::said::refusal;
use crate::error::Result;

/// The differences between a model's layers, as llama.cpp counts them.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// The rotary positions; of the layers without a window if there are both kinds.
    pub(super) rope: Option<Rope>,
    /// The rotary base of the layers with a window.
    pub(super) local_theta: Option<f64>,
    /// The window, and for each layer whether it has one.
    pub(super) window: Option<(usize, Vec<bool>)>,
}

/// The layers of a model.
///
/// # Errors
/// Returns an error if they differ in a way that llama.cpp's can't.
pub(super) fn of(architecture: &Architecture, config: &ModelConfig) -> Result<Layers> {
    let kinds: Vec<LayerKind> = (0..config.n_layer).map(|layer| config.layer_kind(layer)).collect();
    let found = match architecture.differ {
        Differ::No => alike(&kinds),
        Differ::FourthWithoutPositions => without_positions(&kinds),
        Differ::Windows { both_sides } => windows(&kinds, both_sides),
    };
    let layers = found.map_err(|reason| refusal(architecture, vec![reason]))?;
    let (width, n_pair) = config.rotary_widths();
    if layers.rope.is_some() && width != 2 * n_pair {
        let reason = format!("an odd number of channels is rotated, {width} of {}", config.d_head);
        return Err(refusal(architecture, vec![reason]));
    }
    let stretches =
        layers.rope.and_then(|rope| rope.scaling).is_some_and(|it| it.kind == ScalingKind::Llama3);
    if stretches && !architecture.has_frequency_factors {
        let reason = "rope_scaling is Llama 3.1's, but it has only the linear one".to_owned();
        return Err(refusal(architecture, vec![reason]));
    }
    Ok(layers)
}

fn alike(kinds: &[LayerKind]) -> std::result::Result<Layers, String> {
    let first = kinds.first().copied();
    if kinds.iter().any(|kind| Some(*kind) != first) {
        return Err("layers differ, but there all are alike".into());
    }
    match first {
        Some(LayerKind { window: Some(window), .. }) => Err(format!("window = {window}, but it has none")),
        first => Ok(Layers { rope: first.and_then(|kind| kind.rope), ..Layers::default() }),
    }
}

fn without_positions(kinds: &[LayerKind]) -> std::result::Result<Layers, String> {
    let is_fourth = |layer: usize| (layer + 1).is_multiple_of(4);
    let turned: Vec<LayerKind> = kinds.iter().filter(|kind| kind.rope.is_some()).copied().collect();
    let in_place = kinds.iter().enumerate().all(|(layer, kind)| kind.rope.is_none() == is_fourth(layer));
    if !in_place {
        return Err("layers other than every fourth have no positions".into());
    }
    if kinds.iter().any(|kind| kind.window.is_some()) {
        return Err("layers have windows, but it has none".into());
    }
    alike(&turned)
}

fn windows(kinds: &[LayerKind], both_sides: bool) -> std::result::Result<Layers, String> {
    let (near, far): (Vec<LayerKind>, Vec<LayerKind>) = kinds.iter().partition(|kind| kind.window.is_some());
    let same = |kinds: &[LayerKind]| kinds.windows(2).all(|pair| pair[0] == pair[1]);
    if !same(&near) || !same(&far) {
        return Err("layers differ in more than their window".into());
    }
    let Some(LayerKind { window: Some(window), rope: local }) = near.first().copied() else {
        return alike(kinds);
    };
    if local.is_some_and(|rope| rope.scaling.is_some()) {
        return Err("rope_scaling applies to layers with a window, but there only to the others".into());
    }
    if both_sides && far.iter().any(|kind| kind.rope.is_some_and(|rope| rope.scaling.is_some())) {
        return Err("rope_scaling, but it has none".into());
    }
    // llama.cpp's window of an encoder is the width of both sides together.
    let window = if both_sides { 2 * (window - 1) } else { window };
    if window == 0 {
        return Err("a window of one token, which it reads as none".into());
    }
    Ok(Layers {
        rope: far.first().map_or(local, |kind| kind.rope),
        local_theta: local.map(|rope| rope.theta),
        window: Some((window, kinds.iter().map(|kind| kind.window.is_some()).collect())),
    })
}

impl Layers {
    /// The divisors of the rotary frequencies as a tensor, if Llama 3.1's rule scales them.
    ///
    /// # Errors
    /// None known.
    pub(super) fn factors(&self, config: &ModelConfig) -> Result<Option<QTensor>> {
        let Some(rope) = self.rope else { return Ok(None) };
        let Some(scaling) = rope.scaling.filter(|scaling| scaling.kind == ScalingKind::Llama3) else {
            return Ok(None);
        };
        let factors = frequency_factors(rope.theta, scaling, config.rotary_widths());
        let n_pair = factors.len();
        let tensor = Tensor::from_vec(factors, n_pair, &Device::Cpu)?;
        Ok(Some(QTensor::quantize(&tensor, GgmlDType::F32)?))
    }
}
