//! The transformer: embedding, blocks, norm, head.
//!
//! Legend: `b` rows, `t` tokens of a row, `d` model width, `v` vocabulary.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use vulpes_ops::{CrossEntropyOptions, Loss, Mask};

use crate::config::{LayerKind, MaskKind, ModelConfig, Pooling, Positions};
use crate::error::Error;
use crate::input::Input;
use crate::layers::{Context, HeadLayer, Layers, biases};
use crate::parameters::Parameters;
use crate::pool::{last_vectors, mean_pooled};
use crate::probe::Site;
use crate::rotary::Rotary;
use crate::run::Run;

/// A transformer of any family.
///
/// The weights are shared with its [`Parameters`]: an optimizer that changes those in place changes the model.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: ModelConfig,
    parameters: Parameters,
    layers: Layers<Tensor>,
    /// The rotary table of each kind of layer.
    rotary: Vec<Option<Rotary>>,
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
            return Err(Error::Config(faults));
        }
        let layers = Layers::of(config).try_map(&mut |spec| {
            let var = parameters.get(&spec.name)?;
            if var.dims() != spec.shape {
                return Err(Error::ParameterShape {
                    name: spec.name.clone(),
                    found: var.dims().to_vec(),
                    wanted: spec.shape.clone(),
                });
            }
            Ok(if trainable(&spec.name) { var.as_tensor().clone() } else { var.as_detached_tensor() })
        })?;
        let token = &layers.embedding.token;
        let table = |kind: &LayerKind| {
            kind.rope
                .as_ref()
                .map(|rope| Rotary::new(config, rope, token.dtype(), token.device()))
                .transpose()
        };
        let rotary = layers.kinds.iter().map(table).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), parameters, layers, rotary })
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's layers, on the tensors that they compute with.
    pub fn layers(&self) -> &Layers<Tensor> {
        &self.layers
    }

    /// The model's parameters by name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        self.layers.embedding.token.device()
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
        let n_seen = run.cache.as_ref().map_or(0, |cache| cache.n_seen());
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
        let contexts = self.contexts(input, &positions, run)?;
        let places = match (self.config.positions, self.config.pad_id) {
            (Positions::Counted, Some(pad_id)) => counted(input, &positions, pad_id, n_seen)?,
            _ => positions.clone(),
        };
        let mut x = self.layers.embedding.forward(input, &places, run)?;
        run.record(Site::Embedding, &x);
        for block in &self.layers.blocks {
            let context = &contexts[block.kind];
            x = match run.recompute && run.probe.is_none() && run.cache.is_none() {
                true => block.recomputed(&x, context, run)?,
                false => block.forward(&x, context, run)?,
            };
        }
        x = self.read_out(&x)?;
        run.record(Site::Hidden, &x);
        Ok(x)
    }

    /// What the blocks of each kind share in a pass over `input`.
    fn contexts<'a>(&'a self, input: &Input, positions: &'a Tensor, run: &Run) -> Result<Vec<Context<'a>>> {
        let context = |(number, rotary): (usize, &'a Option<Rotary>)| {
            // A windowed layer's cache holds fewer tokens than were read: masks count those, positions count all.
            let first = self.layers.first_of(number);
            let past = run.cache.as_ref().map_or(0, |cache| cache.len_of(first));
            let mask = self.mask(input, first, past)?;
            let len = input.ids.dim(1)?;
            let table = self.layers.relative_bias.as_ref();
            let bias = table.map(|table| biases(table, len, past + len, past)).transpose()?;
            Ok(Context { mask, rotary: rotary.as_ref().map(|rotary| rotary.tables(positions)), bias })
        };
        self.rotary.iter().enumerate().map(context).collect()
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
        self.layers.norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.apply(x))
    }

    /// Of hidden states those that the head reads: of a classifier that reads the last token or the mean, one vector a row;
    /// else all.
    ///
    /// # Shape
    /// `[b, t, d]` to the same, or to `[b, 1, d]`.
    ///
    /// # Gradient
    /// For the hidden states.
    ///
    /// # Errors
    /// When `hidden` is not that of `input`.
    pub fn read_by_head(&self, hidden: &Tensor, input: &Input) -> Result<Tensor> {
        match &self.layers.head {
            HeadLayer::Labels { pooling: Pooling::Last, pad_id, .. } => last_vectors(hidden, input, *pad_id),
            HeadLayer::Labels { pooling: Pooling::Mean, .. } => mean_pooled(hidden, input)?.unsqueeze(1),
            HeadLayer::Labels { pooling: Pooling::First, .. }
            | HeadLayer::Vocabulary { .. }
            | HeadLayer::Hidden { .. } => Ok(hidden.clone()),
        }
    }

    /// The head's logits of hidden states ([`Transformer::read_by_head`]).
    ///
    /// # Shape
    /// `[b, t, d]` to `[b, t, v]`; a classifier's to `[b, n_labels]`; without a head the hidden states themselves.
    ///
    /// # Errors
    /// When `hidden` has another width than the model.
    pub fn logits(&self, hidden: &Tensor, run: &mut Run) -> Result<Tensor> {
        let logits = self.layers.head.logits(hidden, &self.layers.embedding.token, run)?;
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
        self.layers.head.pooled(hidden)
    }

    /// The summed cross-entropy of hidden states ([`Transformer::read_by_head`]) against `targets`, and how many targets
    /// count.
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
        self.layers.head.loss(hidden, &self.layers.embedding.token, targets, options, run)
    }

    /// Cosines and sines of the rotary angles of each kind of layer, `[context_len, k/2]` each; `None` for a kind that
    /// doesn't rotate.
    pub(crate) fn rotary_tables(&self) -> impl Iterator<Item = Option<(&Tensor, &Tensor)>> {
        self.rotary.iter().map(|rotary| rotary.as_ref().map(Rotary::table))
    }

    /// Who may look at whom in layer `layer` when `input` is read after `past` tokens that the layer's cache holds.
    ///
    /// # Errors
    /// Returns an error if the ids are no matrix.
    pub fn mask(&self, input: &Input, layer: usize, past: usize) -> Result<Mask> {
        let (rows, len) = input.ids.dims2()?;
        let mut mask = match self.config.mask {
            MaskKind::Causal => Mask::causal(),
            MaskKind::Full => Mask::full(),
        };
        if let Some(window) = self.config.layer_kind(layer).window {
            mask = mask.window(window);
        }
        if let Some(keep) = &input.keep {
            mask = mask.keep(rows, past + len, last_of_rows(keep, rows, past + len));
        }
        if let Some(segments) = &input.segments {
            mask = mask.segments(rows, past + len, last_of_rows(segments, rows, past + len));
        }
        Ok(mask.past(past))
    }
}

/// Places that count the tokens that are not padding, from `pad_id + 1` on; padding has place `pad_id`
/// ([Liu et al. 2019](https://arxiv.org/abs/1907.11692), as transformers' RoBERTa has it).
///
/// Places that the input brings, or that go on from a cache, are moved by as much.
fn counted(input: &Input, positions: &Tensor, pad_id: u32, n_seen: usize) -> Result<Tensor> {
    if input.positions.is_some() || n_seen > 0 {
        let offset = Tensor::full(pad_id + 1, positions.shape(), positions.device())?;
        return positions + offset;
    }
    let rows: Vec<Vec<u32>> = input.ids.to_vec2()?;
    let places: Vec<u32> = rows
        .iter()
        .flat_map(|row| {
            row.iter().scan(pad_id, |last, id| {
                *last += u32::from(*id != pad_id);
                Some(if *id == pad_id { pad_id } else { *last })
            })
        })
        .collect();
    Tensor::from_vec(places, positions.shape(), positions.device())
}

/// The last `len` values of each row: a layer with a narrow window holds fewer tokens than its neighbors.
fn last_of_rows<T: Copy>(values: &Arc<[T]>, rows: usize, len: usize) -> Arc<[T]> {
    let held = values.len().checked_div(rows).unwrap_or(0);
    if held <= len || values.len() != rows * held {
        // What doesn't cover the batch is refused where the mask is used.
        return values.clone();
    }
    values.chunks_exact(held).flat_map(|row| &row[held - len..]).copied().collect()
}
