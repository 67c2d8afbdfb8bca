//! Where layers differ: windows, and what positions turn by.

use candle_core::Device;
use candle_core::Tensor;
use candle_core::quantized::{GgmlDType, QTensor};
use vulpes_model::ModelConfig;
use vulpes_model::config::{LayerKind, Rope, ScalingKind};

use super::architecture::{Architecture, Differ};
use crate::error::Result;

/// What the layers of a model have of their own, as llama.cpp counts it.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// What positions turn by, in layers without a window where there are both.
    pub(super) rope: Option<Rope>,
    /// The base of the layers with a window.
    pub(super) local_theta: Option<f64>,
    /// The window, and for each layer whether it has one.
    pub(super) window: Option<(usize, Vec<bool>)>,
}

/// The layers of a model.
///
/// # Errors
/// If they differ otherwise than llama.cpp's do.
pub(super) fn of(architecture: &Architecture, config: &ModelConfig) -> Result<Layers> {
    let kinds: Vec<LayerKind> = (0..config.n_layer).map(|layer| config.layer_kind(layer)).collect();
    let found = match architecture.differ {
        Differ::No => alike(&kinds),
        Differ::FourthWithoutPositions => without_positions(&kinds),
        Differ::Windows { both_sides } => windows(&kinds, both_sides),
    };
    let layers = found.map_err(|reason| architecture.refuses(vec![reason]))?;
    let (width, n_pair) = config.rotary_widths();
    if layers.rope.is_some() && width != 2 * n_pair {
        let reason = format!("an odd number of channels is turned, {width} of {}", config.d_head);
        return Err(architecture.refuses(vec![reason]));
    }
    let stretches =
        layers.rope.and_then(|rope| rope.scaling).is_some_and(|it| it.kind == ScalingKind::Llama3);
    if stretches && !architecture.has_frequency_factors {
        let reason = "rope_scaling is Llama 3.1's, where it has the linear one alone".to_owned();
        return Err(architecture.refuses(vec![reason]));
    }
    Ok(layers)
}

fn alike(kinds: &[LayerKind]) -> std::result::Result<Layers, String> {
    let first = kinds.first().copied();
    if kinds.iter().any(|kind| Some(*kind) != first) {
        return Err("layers differ, where it has them all alike".into());
    }
    match first {
        Some(LayerKind { window: Some(window), .. }) => Err(format!("window = {window}, where it has none")),
        first => Ok(Layers { rope: first.and_then(|kind| kind.rope), ..Layers::default() }),
    }
}

fn without_positions(kinds: &[LayerKind]) -> std::result::Result<Layers, String> {
    let is_fourth = |layer: usize| (layer + 1).is_multiple_of(4);
    let turned: Vec<LayerKind> = kinds.iter().filter(|kind| kind.rope.is_some()).copied().collect();
    let in_place = kinds.iter().enumerate().all(|(layer, kind)| kind.rope.is_none() == is_fourth(layer));
    if !in_place {
        return Err("other layers than every fourth go without positions".into());
    }
    if kinds.iter().any(|kind| kind.window.is_some()) {
        return Err("layers have windows, where it has none".into());
    }
    alike(&turned)
}

fn windows(kinds: &[LayerKind], both_sides: bool) -> std::result::Result<Layers, String> {
    let (near, far): (Vec<LayerKind>, Vec<LayerKind>) = kinds.iter().partition(|kind| kind.window.is_some());
    let same = |kinds: &[LayerKind]| kinds.windows(2).all(|pair| pair[0] == pair[1]);
    if !same(&near) || !same(&far) {
        return Err("layers differ in more than whether they have the window".into());
    }
    let Some(LayerKind { window: Some(window), rope: local }) = near.first().copied() else {
        return alike(kinds);
    };
    if local.is_some_and(|rope| rope.scaling.is_some()) {
        return Err(
            "rope_scaling stretches layers with a window, where it has only the others stretched".into()
        );
    }
    if both_sides && far.iter().any(|kind| kind.rope.is_some_and(|rope| rope.scaling.is_some())) {
        return Err("rope_scaling, where it has none".into());
    }
    // llama.cpp's window of an encoder is the width of both sides together.
    let window = if both_sides { 2 * (window - 1) } else { window };
    if window == 0 {
        return Err("a window of one token, which it takes for none".into());
    }
    Ok(Layers {
        rope: far.first().map_or(local, |kind| kind.rope),
        local_theta: local.map(|rope| rope.theta),
        window: Some((window, kinds.iter().map(|kind| kind.window.is_some()).collect())),
    })
}

impl Layers {
    /// What each rotary frequency is divided by, as a tensor, where Llama 3.1's rule stretches them.
    ///
    /// # Errors
    /// None that is known.
    pub(super) fn factors(&self, config: &ModelConfig) -> Result<Option<QTensor>> {
        let Some(rope) = self.rope else { return Ok(None) };
        let Some(scaling) = rope.scaling.filter(|scaling| scaling.kind == ScalingKind::Llama3) else {
            return Ok(None);
        };
        let (width, n_pair) = config.rotary_widths();
        let factor = |i: usize| {
            let theta = rope.theta.powf(-2.0 * i as f64 / width as f64);
            (theta / scaling.scaled(theta)) as f32
        };
        let factors: Vec<f32> = (0..n_pair).map(factor).collect();
        let tensor = Tensor::from_vec(factors, n_pair, &Device::Cpu)?;
        Ok(Some(QTensor::quantize(&tensor, GgmlDType::F32)?))
    }
}
