//! Rotary positions: the table of angles, and its scaling to longer contexts.

use candle_core::{DType, Device, Result, Tensor};
use vulpes_ops::RotaryTables;

use crate::config::{ModelConfig, Rope};

/// `cos(p θ_i)` and `sin(p θ_i)` for every position p and channel pair i, `θ_i = rope_theta^(-2i / r)` (Su et al. 2021,
/// eq. 15; our r, the number of rotated channels of a head, is their d).
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// The table for positions `0..context_len`, computed in float64.
    pub(crate) fn new(config: &ModelConfig, rope: &Rope, dtype: DType, device: &Device) -> Result<Self> {
        let (width, n_pair) = config.rotary_widths();
        let thetas: Vec<f64> = (0..n_pair)
            .map(|i| libm::pow(rope.theta, -2.0 * i as f64 / width as f64))
            .map(|theta| rope.scaling.map_or(theta, |scaling| scaling.scaled(theta)))
            .collect();
        let table = |f: fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f64> = (0..config.context_len)
                .flat_map(|p| thetas.iter().map(move |theta| f(p as f64 * theta)))
                .collect();
            Tensor::from_vec(values, (config.context_len, n_pair), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)
        };
        Ok(Self { cos: table(libm::cos)?, sin: table(libm::sin)? })
    }

    /// The table: cosines and sines, `[context_len, k/2]` each.
    pub(crate) fn table(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// The table, and the positions to rotate by.
    pub(crate) fn tables<'a>(&'a self, positions: &'a Tensor) -> RotaryTables<'a> {
        RotaryTables { cos: &self.cos, sin: &self.sin, positions: Some(positions) }
    }
}
