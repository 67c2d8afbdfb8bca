//! What a parameter is before it has values: name, shape, initialization, and the role that it plays.

use candle_core::{DType, Device, Result, Tensor, Var};
use rayon::prelude::*;
use vulpes_random::Key;

/// How a parameter is initialized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
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

/// What kind of parameter it is, whichever part of the model it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A table with one row per id: rows are looked up, not multiplied.
    Embedding,
    /// The weight of a projection, `[out, in]`: the matrix of a matrix product.
    Matrix,
    /// The scale of a norm.
    Scale,
    /// What a projection or a norm adds.
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
    /// A norm, wherever it stands.
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
    /// The head: what stands between the last hidden state and the logits.
    Head,
}

/// Where in the model a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Between ids and the first block.
    Embedding,
    /// The attention sublayer of a block.
    Attention {
        /// The block's number, from 0.
        layer: usize,
    },
    /// The feed-forward sublayer of a block.
    FeedForward {
        /// The block's number, from 0.
        layer: usize,
    },
    /// The norm after the last block.
    FinalNorm,
    /// The head.
    Head,
}

/// What a parameter is for. Optimizers, gradient tables and counts of operations decide by it, never by names or ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    /// Where it is.
    pub location: Location,
    /// The part that it belongs to.
    pub part: Part,
    /// Table, matrix, scale or bias.
    pub kind: Kind,
}

impl Role {
    /// Whether weight decay acts on it: on tables and matrices. A norm's scale or a bias has no reason to be small
    /// ([Radford et al. 2018](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf), sec. 4.1).
    pub fn decays(&self) -> bool {
        match self.kind {
            Kind::Embedding | Kind::Matrix => true,
            Kind::Scale | Kind::Bias => false,
        }
    }

    /// Whether it is the matrix of a product inside a block: what matrix rules such as Muon are made for.
    pub fn is_block_matrix(&self) -> bool {
        self.kind == Kind::Matrix
            && matches!(self.location, Location::Attention { .. } | Location::FeedForward { .. })
    }
}

/// One parameter as the config describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Its name, as `blocks.0.attention.query.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it is initialized.
    pub init: Init,
    /// What it is for.
    pub role: Role,
}

impl ParameterSpec {
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
            Init::Normal { std } => {
                let key = Key::new(seed, "init").with(self.name.as_str());
                // What is trained as float32 is rounded as it is drawn: a large table would take three times its size.
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

/// `n` draws from N(0, 1) under one key, each seen through `f`: the same numbers on any number of threads.
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
