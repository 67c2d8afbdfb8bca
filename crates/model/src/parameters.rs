//! Every parameter by name: one table of names, shapes and first values, from which all else follows.
//!
//! Legend: `v` vocabulary, `d` model width, `h` query heads, `g` key/value heads, `k` head width, `f` feed-forward
//! width, `c` context length. Projections are stored `[out, in]`.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use vulpes_random::Key;

use crate::config::{BlockKind, FeedForwardKind, Head, ModelConfig, NormKind, Positions};
use crate::{Error, Result};

/// What a parameter starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FirstValue {
    /// Draws from N(0, std²), keyed by the seed and the parameter's name.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// All zeros: biases.
    Zeros,
    /// All ones: the scale of a norm.
    Ones,
}

/// One parameter as the config declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its name, as `blocks.0.attention.query.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it starts from.
    pub first_value: FirstValue,
}

impl Declared {
    /// The parameter with its first value: drawn from a stream keyed by `seed` and its name, in float64, then rounded
    /// to `dtype`.
    pub(crate) fn draw(&self, seed: u64, dtype: DType, device: &Device) -> candle_core::Result<Var> {
        let shape = self.shape.as_slice();
        let tensor = match self.first_value {
            FirstValue::Zeros => Tensor::zeros(shape, dtype, device)?,
            FirstValue::Ones => Tensor::ones(shape, dtype, device)?,
            FirstValue::Normal { std } => {
                let key = Key::new(seed, "init").with(self.name.as_str());
                let n = shape.iter().product();
                // What is trained as float32 is rounded as it is drawn: a large table would take three times its size.
                let drawn = match dtype {
                    DType::F64 => Tensor::from_vec(normals(&key, n, |x| std * x), shape, &Device::Cpu)?,
                    _ => Tensor::from_vec(normals(&key, n, |x| (std * x) as f32), shape, &Device::Cpu)?,
                };
                drawn.to_dtype(dtype)?.to_device(device)?
            }
        };
        Var::from_tensor(&tensor)
    }
}

/// `n` draws from N(0, 1) under one key, each seen through `f`: the same numbers on any number of threads.
fn normals<T: Copy + Default + Send>(key: &Key, n: usize, f: impl Fn(f64) -> T + Sync) -> Vec<T> {
    const PART: usize = 64 * 1024;
    let mut values = vec![T::default(); n];
    values.par_chunks_mut(PART).enumerate().for_each(|(part, values)| {
        let mut stream = key.stream();
        stream.skip_normals((part * PART) as u64);
        values.iter_mut().for_each(|value| *value = f(stream.normal()));
    });
    values
}

/// Every parameter of the model that `config` describes, in the order of the data's way through it.
///
/// Projections back into the residual stream of a pre-norm model start smaller by `1 / sqrt(2 n_layer)`
/// (Radford et al. 2019, sec. 2.3), so that the stream's variance doesn't grow with depth.
pub fn declare(config: &ModelConfig) -> Vec<Declared> {
    let c = config;
    let mut table = Table { declared: Vec::new(), norm: c.norm, std: c.init_std };
    table.weight("embedding.token.weight", &[c.vocab_size, c.d_model], 1.0);
    if c.positions == Positions::Learned {
        table.weight("embedding.position.weight", &[c.context_len, c.d_model], 1.0);
    }
    if c.n_token_type > 0 {
        table.weight("embedding.token_type.weight", &[c.n_token_type, c.d_model], 1.0);
    }
    if c.block == BlockKind::Post {
        table.norm("embedding.norm", c.d_model);
    }
    let residual = if c.block == BlockKind::Pre { (2.0 * c.n_layer as f64).sqrt().recip() } else { 1.0 };
    for layer in 0..c.n_layer {
        let attention = format!("blocks.{layer}.attention");
        table.norm(&format!("{attention}.norm"), c.d_model);
        table.projection(
            &format!("{attention}.query"),
            c.n_head * c.d_head,
            c.d_model,
            c.attention_bias,
            1.0,
        );
        table.projection(
            &format!("{attention}.key"),
            c.n_kv_head * c.d_head,
            c.d_model,
            c.attention_bias,
            1.0,
        );
        table.projection(
            &format!("{attention}.value"),
            c.n_kv_head * c.d_head,
            c.d_model,
            c.attention_bias,
            1.0,
        );
        if c.block != BlockKind::Bare {
            table.projection(
                &format!("{attention}.output"),
                c.d_model,
                c.n_head * c.d_head,
                c.attention_bias,
                residual,
            );
        }
        if c.feed_forward != FeedForwardKind::None {
            let feed_forward = format!("blocks.{layer}.feed_forward");
            let bias = c.feed_forward_bias;
            table.norm(&format!("{feed_forward}.norm"), c.d_model);
            if c.gated() {
                table.projection(&format!("{feed_forward}.gate"), c.d_ff, c.d_model, bias, 1.0);
            }
            table.projection(&format!("{feed_forward}.up"), c.d_ff, c.d_model, bias, 1.0);
            table.projection(&format!("{feed_forward}.down"), c.d_model, c.d_ff, bias, residual);
        }
    }
    if c.block == BlockKind::Pre {
        table.norm("norm", c.d_model);
    }
    declare_head(c, &mut table);
    table.declared
}

fn declare_head(c: &ModelConfig, table: &mut Table) {
    let d = c.d_hidden();
    match c.head {
        Head::NextToken => {
            if !c.tied_head {
                table.weight("head.weight", &[c.vocab_size, d], 1.0);
            }
        }
        Head::MaskedToken => {
            table.projection("head.transform", d, d, true, 1.0);
            table.norm_of(NormKind::Layer, "head.norm", d);
            if !c.tied_head {
                table.weight("head.weight", &[c.vocab_size, d], 1.0);
            }
            table.push("head.bias", &[c.vocab_size], FirstValue::Zeros);
        }
        Head::Classify { n_labels } => {
            table.projection("head.pooler", d, d, true, 1.0);
            table.projection("head.classifier", n_labels, d, true, 1.0);
        }
        Head::Hidden { pooler } => {
            if pooler {
                table.projection("head.pooler", d, d, true, 1.0);
            }
        }
    }
}

struct Table {
    declared: Vec<Declared>,
    norm: NormKind,
    std: f64,
}

impl Table {
    fn push(&mut self, name: &str, shape: &[usize], first_value: FirstValue) {
        self.declared.push(Declared { name: name.into(), shape: shape.into(), first_value });
    }

    fn weight(&mut self, name: &str, shape: &[usize], scale: f64) {
        self.push(name, shape, FirstValue::Normal { std: self.std * scale });
    }

    fn projection(&mut self, name: &str, d_out: usize, d_in: usize, bias: bool, scale: f64) {
        self.weight(&format!("{name}.weight"), &[d_out, d_in], scale);
        if bias {
            self.push(&format!("{name}.bias"), &[d_out], FirstValue::Zeros);
        }
    }

    fn norm(&mut self, name: &str, d: usize) {
        self.norm_of(self.norm, name, d);
    }

    fn norm_of(&mut self, kind: NormKind, name: &str, d: usize) {
        if kind != NormKind::None {
            self.push(&format!("{name}.weight"), &[d], FirstValue::Ones);
        }
        if kind == NormKind::Layer {
            self.push(&format!("{name}.bias"), &[d], FirstValue::Zeros);
        }
    }
}

/// A model's parameters, sorted by name.
///
/// The order of the names is the order of every sum over parameters, so that it never depends on chance.
#[derive(Clone, Debug)]
pub struct Parameters(BTreeMap<String, Var>);

impl Parameters {
    /// Fresh parameters: each drawn from a stream keyed by `seed` and its name, in float64, then rounded to `dtype`.
    ///
    /// # Errors
    /// When the device has no room, or the config contradicts itself.
    pub fn init(config: &ModelConfig, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let mut parameters = BTreeMap::new();
        for declared in declare(config) {
            let var = declared.draw(seed, dtype, device)?;
            parameters.insert(declared.name, var);
        }
        Ok(Self(parameters))
    }

    /// Parameters that come from elsewhere, as read from a file.
    pub fn from_map(parameters: BTreeMap<String, Var>) -> Self {
        Self(parameters)
    }

    /// The parameter of that name.
    ///
    /// # Errors
    /// [`Error::MissingParameter`] when there is none.
    pub fn get(&self, name: &str) -> Result<&Var> {
        self.0.get(name).ok_or_else(|| Error::MissingParameter(name.to_owned()))
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// How many numbers there are in all.
    pub fn n_values(&self) -> usize {
        self.0.values().map(|var| var.elem_count()).sum()
    }
}
