//! The spec of a parameter: name, shape, initialization and role.

use candle_core::{DType, Device, Result, Tensor, Var};
use rayon::prelude::*;
use vulpes_random::Key;

/// The initialization of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Draws from N(0, std²), keyed by the seed and the parameter's name.
    Normal {
        /// The standard deviation.
        std: f64,
    },
    /// Draws from a uniform distribution between −bound and bound, keyed likewise.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// All zeros: biases.
    Zeros,
    /// All ones: the scale of a norm.
    Ones,
}

/// The kind of a parameter, in whichever part of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A table with one row per id: rows are looked up, not multiplied.
    Embedding,
    /// The weight of a projection, `[out, in]`: used in a matrix product.
    Matrix,
    /// The scale of a norm.
    Scale,
    /// The bias of a projection or a norm.
    Bias,
}

/// The part of the model that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The token embedding.
    Token,
    /// The learned position embedding.
    Position,
    /// The token-type embedding.
    TokenType,
    /// The bigram embedding.
    Pair,
    /// A norm, at any location.
    Norm,
    /// The query projection.
    Query,
    /// The key projection.
    Key,
    /// The value projection.
    Value,
    /// The output projection of an attention sublayer.
    AttentionOutput,
    /// A projection of a feed-forward sublayer: gate, up or down.
    FeedForward,
    /// The head: everything between the last hidden state and the logits.
    Head,
}

/// The location of a parameter in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Between ids and the first block.
    Embedding,
    /// The attention sublayer of a block.
    Attention {
        /// The block's index, from 0.
        layer: usize,
    },
    /// The feed-forward sublayer of a block.
    FeedForward {
        /// The block's index, from 0.
        layer: usize,
    },
    /// The norm after the last block.
    FinalNorm,
    /// The head.
    Head,
}

/// The role of a parameter. Optimizers, gradient tables and FLOP counts go by it, never by names or ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    /// Its location.
    pub location: Location,
    /// Its part of the model.
    pub part: Part,
    /// Table, matrix, scale or bias.
    pub kind: Kind,
}

impl Role {
    /// Whether weight decay applies to it: to tables and matrices, but not to norms' scales and biases, which have no
    /// reason to be small
    /// ([Radford et al. 2018](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf),
    /// sec. 4.1).
    pub fn decays(&self) -> bool {
        match self.kind {
            Kind::Embedding | Kind::Matrix => true,
            Kind::Scale | Kind::Bias => false,
        }
    }

    /// Whether it is a matrix inside a block, as optimizers such as Muon require.
    pub fn is_block_matrix(&self) -> bool {
        self.kind == Kind::Matrix
            && matches!(self.location, Location::Attention { .. } | Location::FeedForward { .. })
    }
}

/// One parameter of a config.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Its name, such as `blocks.0.attention.query.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its initialization.
    pub init: Init,
    /// Its role.
    pub role: Role,
}

impl ParameterSpec {
    /// A table of `rows` vectors of `width`, drawn from N(0, 0.02²).
    pub fn embedding(name: &str, rows: usize, width: usize) -> Self {
        let role = Role { location: Location::Embedding, part: Part::Token, kind: Kind::Embedding };
        Self { name: name.into(), shape: vec![rows, width], init: Init::Normal { std: 0.02 }, role }
    }

    /// The weight of a projection inside block `layer`, `[out, in]`, drawn from N(0, 0.02²).
    pub fn matrix(name: &str, layer: usize, [out, inner]: [usize; 2]) -> Self {
        let role =
            Role { location: Location::FeedForward { layer }, part: Part::FeedForward, kind: Kind::Matrix };
        Self { name: name.into(), shape: vec![out, inner], init: Init::Normal { std: 0.02 }, role }
    }

    /// The scale of a norm of `width` channels, all ones.
    pub fn scale(name: &str, width: usize) -> Self {
        let role = Role { location: Location::FinalNorm, part: Part::Norm, kind: Kind::Scale };
        Self { name: name.into(), shape: vec![width], init: Init::Ones, role }
    }

    /// A bias of `width` channels, all zeros.
    pub fn bias(name: &str, width: usize) -> Self {
        let role = Role { location: Location::FinalNorm, part: Part::Norm, kind: Kind::Bias };
        Self { name: name.into(), shape: vec![width], init: Init::Zeros, role }
    }

    /// The same parameter with another initialization.
    #[must_use]
    pub fn with_init(self, init: Init) -> Self {
        Self { init, ..self }
    }

    /// The number of its elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// The parameter, initialized: drawn from a stream keyed by `seed` and its name, in float64, then rounded to `dtype`.
    ///
    /// # Errors
    /// Returns an error if the device has no room.
    pub fn draw(&self, seed: u64, dtype: DType, device: &Device) -> Result<Var> {
        let shape = self.shape.as_slice();
        let tensor = match self.init {
            Init::Zeros => Tensor::zeros(shape, dtype, device)?,
            Init::Ones => Tensor::ones(shape, dtype, device)?,
            Init::Uniform { bound } => {
                let mut stream = Key::new(seed, "init").with(self.name.as_str()).stream();
                let draw = || (2.0 * stream.uniform_f64() - 1.0) * bound;
                let drawn: Vec<f64> = std::iter::repeat_with(draw).take(self.numel()).collect();
                Tensor::from_vec(drawn, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?
            }
            Init::Normal { std } => {
                let key = Key::new(seed, "init").with(self.name.as_str());
                // float32 parameters are rounded as they are drawn: a large table would otherwise take three times its
                // size.
                let drawn = match dtype {
                    DType::F64 => {
                        Tensor::from_vec(normals(&key, self.numel(), |x| std * x), shape, &Device::Cpu)?
                    }
                    _ => {
                        let values = normals(&key, self.numel(), |x| (std * x) as f32);
                        Tensor::from_vec(values, shape, &Device::Cpu)?
                    }
                };
                drawn.to_dtype(dtype)?.to_device(device)?
            }
        };
        Var::from_tensor(&tensor)
    }
}

/// `f` of `n` draws from N(0, 1) under one key: the same values on any number of threads.
fn normals<T: Copy + Default + Send>(key: &Key, n: usize, f: impl Fn(f64) -> T + Sync) -> Vec<T> {
    const CHUNK: usize = 64 * 1024;
    let mut values = vec![T::default(); n];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut stream = key.stream();
        stream.skip_normals((chunk * CHUNK) as u64);
        values.iter_mut().for_each(|value| *value = f(stream.normal()));
    });
    values
}
