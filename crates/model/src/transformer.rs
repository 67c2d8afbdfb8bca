//! The transformer: embedding, blocks, norm, head.
//!
//! Legend: `b` rows, `t` tokens of a row, `d` model width, `v` vocabulary.

use candle_core::{DType, Device, Result, Tensor};
use vulpes_ops::{self as ops, CrossEntropyOptions, Loss, Mask};

use crate::attention::Shared;
use crate::block::Block;
use crate::config::{BlockKind, MaskKind, ModelConfig, Positions};
use crate::embedding::Embedding;
use crate::head::HeadLayer;
use crate::norm::Norm;
use crate::rotary::Rotary;
use crate::{Input, Parameters, Run, Site};

/// Where layers take their weights from: the parameters, tracked by autograd or not.
pub(crate) struct Weights<'a> {
    parameters: &'a Parameters,
    trainable: &'a dyn Fn(&str) -> bool,
}

impl Weights<'_> {
    pub(crate) fn get(&self, name: &str) -> crate::Result<Tensor> {
        let var = self.parameters.get(name)?;
        Ok(if (self.trainable)(name) { var.as_tensor().clone() } else { var.as_detached_tensor() })
    }
}

/// `x wᵀ + b`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn new(weights: &Weights, name: &str, bias: bool) -> crate::Result<Self> {
        Ok(Self {
            weight: weights.get(&format!("{name}.weight"))?,
            bias: bias.then(|| weights.get(&format!("{name}.bias"))).transpose()?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    /// The projection as a part of a sublayer.
    pub(crate) fn part(&self) -> ops::Projection<'_> {
        ops::Projection { weight: &self.weight, bias: self.bias.as_ref() }
    }
}

/// A transformer of any family.
///
/// The weights are shared with its [`Parameters`]: an optimizer that changes those in place changes the model.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: ModelConfig,
    parameters: Parameters,
    embedding: Embedding,
    rotary: Option<Rotary>,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    head: HeadLayer,
}

impl Transformer {
    /// A fresh model, its parameters drawn from streams keyed by `seed` and their names.
    ///
    /// # Errors
    /// When the config contradicts itself or the device has no room.
    ///
    /// # Examples
    /// ```
    /// use candle_core::{DType, Device};
    /// use vulpes_model::{Head, Input, ModelSection, Run, Transformer, config::Family};
    ///
    /// let section = ModelSection { family: Some(Family::Fox), ..ModelSection::default() };
    /// let model = Transformer::init(&section.resolve(10, Head::NextToken), 42, DType::F32, &Device::Cpu)?;
    /// let input = Input::new(&[1, 2, 3, 4], 1, &Device::Cpu)?;
    /// let hidden = model.forward(&input, &mut Run::inference())?;
    /// assert_eq!(model.logits(&hidden, &mut Run::inference())?.dims(), [1, 4, 10]);
    /// # Ok::<(), vulpes_model::Error>(())
    /// ```
    pub fn init(config: &ModelConfig, seed: u64, dtype: DType, device: &Device) -> crate::Result<Self> {
        Self::from_parameters(config, Parameters::init(config, seed, dtype, device)?)
    }

    /// The model on parameters that exist already; all of them are trainable.
    ///
    /// # Errors
    /// When the config contradicts itself, or a parameter is missing.
    pub fn from_parameters(config: &ModelConfig, parameters: Parameters) -> crate::Result<Self> {
        Self::build(config, parameters, &|_| true)
    }

    /// The same model on the same weights, of which only those that `trainable` names get gradients.
    ///
    /// # Errors
    /// As [`Transformer::from_parameters`].
    pub fn with_trainable(&self, trainable: &dyn Fn(&str) -> bool) -> crate::Result<Self> {
        Self::build(&self.config, self.parameters.clone(), trainable)
    }

    /// The same model on the same weights without autograd: nothing is recorded, nothing kept.
    ///
    /// # Errors
    /// As [`Transformer::from_parameters`].
    pub fn without_gradients(&self) -> crate::Result<Self> {
        self.with_trainable(&|_| false)
    }

    fn build(
        config: &ModelConfig,
        parameters: Parameters,
        trainable: &dyn Fn(&str) -> bool,
    ) -> crate::Result<Self> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(crate::Error::Config(faults));
        }
        let weights = Weights { parameters: &parameters, trainable };
        let embedding = Embedding::new(config, &weights)?;
        let (dtype, device) = (embedding.token.dtype(), embedding.token.device().clone());
        Ok(Self {
            rotary: match config.positions {
                Positions::Rotary => Some(Rotary::new(config, dtype, &device)?),
                Positions::None | Positions::Learned => None,
            },
            blocks: (0..config.n_layer)
                .map(|layer| Block::new(config, layer, &weights))
                .collect::<crate::Result<_>>()?,
            norm: match config.block {
                BlockKind::Pre => Norm::new(config, "norm", &weights)?,
                BlockKind::Bare | BlockKind::Post => None,
            },
            head: HeadLayer::new(config, &embedding.token, &weights)?,
            embedding,
            config: config.clone(),
            parameters,
        })
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's parameters by name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        self.embedding.token.device()
    }

    /// From token ids to the hidden states that the head reads.
    ///
    /// # Shape
    /// `[b, t]` ids to `[b, t, d]`.
    ///
    /// # Gradient
    /// For every trainable parameter but the head's.
    ///
    /// # Errors
    /// An id outside the vocabulary; a row (with what is cached before it) longer than the context.
    pub fn forward(&self, input: &Input, run: &mut Run) -> Result<Tensor> {
        let (rows, len) = input.ids.dims2()?;
        // A windowed model's cache holds fewer tokens than were read: masks count those, places count these.
        let (past, n_seen) = run.cache.as_ref().map_or((0, 0), |cache| (cache.len(), cache.n_seen()));
        if n_seen + len > self.config.context_len {
            candle_core::bail!(
                "a row of {} tokens is longer than the context of {}",
                n_seen + len,
                self.config.context_len
            );
        }
        if run.cache.is_some() && self.config.mask == MaskKind::Full {
            candle_core::bail!(
                "a model whose tokens see those after them can't be read piece by piece with a cache"
            );
        }
        let positions = match &input.positions {
            Some(positions) => positions.clone(),
            None => Tensor::arange(n_seen as u32, (n_seen + len) as u32, self.device())?
                .unsqueeze(0)?
                .broadcast_as((rows, len))?
                .contiguous()?,
        };
        let mask = self.mask(input, past)?;
        let shared = Shared { mask: &mask, positions: &positions, rotary: self.rotary.as_ref() };
        let mut x = self.embedding.forward(input, &positions, run)?;
        run.record(Site::Embedding, &x);
        for block in &self.blocks {
            x = block.forward(&x, &shared, run)?;
        }
        x = self.read_out(&x)?;
        run.record(Site::Hidden, &x);
        Ok(x)
    }

    /// What the head reads of a stream: its final norm, where the model has one.
    ///
    /// Of the stream after an earlier block it gives the logit lens: what the model would say if it ended there.
    ///
    /// # Shape
    /// `[b, t, d]` to the same.
    ///
    /// # Errors
    /// Where the width is not the model's.
    pub fn read_out(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))
    }

    /// The head's logits of hidden states.
    ///
    /// # Shape
    /// `[b, t, d]` to `[b, t, v]`; a classifier's to `[b, n_labels]`; without a head the hidden states themselves.
    ///
    /// # Errors
    /// When `hidden` has another width than the model.
    pub fn logits(&self, hidden: &Tensor, run: &mut Run) -> Result<Tensor> {
        let logits = self.head.logits(hidden, run)?;
        run.record(Site::Logits, &logits);
        Ok(logits)
    }

    /// BERT's pooler on the first token's hidden state: `tanh(w h₀ + b)`; `None` for a model without one.
    ///
    /// # Shape
    /// `[b, t, d]` to `[b, d]`.
    ///
    /// # Errors
    /// When `hidden` has another width than the model.
    pub fn pooled(&self, hidden: &Tensor) -> Result<Option<Tensor>> {
        self.head.pooled(hidden)
    }

    /// The summed cross-entropy of hidden states against `targets`, and how many targets count.
    ///
    /// # Shape
    /// `hidden` `[b, t, d]`; `targets` `[b · t]`, a classifier's `[b]`.
    ///
    /// # Errors
    /// A target outside the vocabulary; a model without a head.
    pub fn loss(
        &self,
        hidden: &Tensor,
        targets: &[i64],
        options: &CrossEntropyOptions,
        run: &Run,
    ) -> Result<Loss> {
        self.head.loss(hidden, targets, options, run)
    }

    /// Cosines and sines of the rotary angles, `[context_len, k/2]` each; `None` where places are known otherwise.
    pub(crate) fn rotary_table(&self) -> Option<(Tensor, Tensor)> {
        self.rotary.as_ref().map(Rotary::table)
    }

    /// Who may look at whom when `input` is read after `past` tokens of a cache.
    ///
    /// # Errors
    /// Where the ids are no matrix.
    pub fn mask(&self, input: &Input, past: usize) -> Result<Mask> {
        let (rows, len) = input.ids.dims2()?;
        let mut mask = match self.config.mask {
            MaskKind::Causal => Mask::causal(),
            MaskKind::Full => Mask::full(),
        };
        if let Some(window) = self.config.window {
            mask = mask.window(window);
        }
        if let Some(keep) = &input.keep {
            mask = mask.keep(rows, past + len, keep.clone());
        }
        if let Some(segments) = &input.segments {
            mask = mask.segments(rows, past + len, segments.clone());
        }
        Ok(mask.past(past))
    }
}
