//! The transformer: embedding, blocks, norm, head.
//!
//! Legend: `b` rows, `t` tokens of a row, `d` model width, `v` vocabulary.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use vulpes_ops::{CrossEntropyOptions, Loss, Mask};

use crate::adapter::AdapterSpec;
use crate::config::{LayerKind, MaskKind, ModelConfig, Pooling, Positions};
use crate::error::Error;
use crate::input::Input;
use crate::layers::{Context, HeadLayer, Layers, adapted_specs, biases};
use crate::parameters::Parameters;
use crate::pass::Pass;
use crate::pool::{last_vectors, mean_pooled};
use crate::probe::Site;
use crate::rotary::Rotary;
use crate::spec::ParameterSpec;

/// A transformer of any family.
///
/// The weights are shared with its [`Parameters`]: an optimizer that changes those in place changes the model.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: ModelConfig,
    adapter: Option<Arc<AdapterSpec>>,
    parameters: Parameters,
    layers: Layers<Tensor>,
    /// The rotary table of each kind of layer.
    rotary: Vec<Option<Rotary>>,
}

impl Transformer {
    /// A newly initialized model, its parameters drawn from streams keyed by `seed` and their names.
    ///
    /// # Errors
    /// Returns an error if the config contradicts itself or the device has no room.
    ///
    /// # Examples
    /// ```
    /// use candle_core::{DType, Device};
    /// use vulpes_model::{Head, Input, ModelSection, Pass, Transformer, config::Family};
    ///
    /// let section = ModelSection { family: Some(Family::Fox), ..ModelSection::default() };
    /// let model = Transformer::init(&section.resolve(10, Head::NextToken), 42, DType::F32, &Device::Cpu)?;
    /// let input = Input::new(&[1, 2, 3, 4], 1, &Device::Cpu)?;
    /// let hidden = model.forward(&input, &mut Pass::inference())?;
    /// assert_eq!(model.logits(&hidden, &mut Pass::inference())?.dims(), [1, 4, 10]);
    /// # Ok::<(), vulpes_model::Error>(())
    /// ```
    pub fn init(config: &ModelConfig, seed: u64, dtype: DType, device: &Device) -> crate::Result<Self> {
        Self::from_parameters(config, Parameters::init(config, seed, dtype, device)?)
    }

    /// A model on existing parameters; all of them are trainable.
    ///
    /// # Errors
    /// Returns an error if the config contradicts itself, or a parameter is missing.
    pub fn from_parameters(config: &ModelConfig, parameters: Parameters) -> crate::Result<Self> {
        Self::build(config, None, parameters, &|_| true)
    }

    /// A model with an adapter on existing parameters, including the adapter's; all of them are trainable.
    ///
    /// # Errors
    /// As [`Transformer::from_parameters`].
    pub fn adapted(
        config: &ModelConfig,
        adapter: AdapterSpec,
        parameters: Parameters,
    ) -> crate::Result<Self> {
        Self::build(config, Some(Arc::new(adapter)), parameters, &|_| true)
    }

    /// The same model on the same weights, of which only those that `trainable` names get gradients.
    ///
    /// # Errors
    /// As [`Transformer::from_parameters`].
    pub fn with_trainable(&self, trainable: &dyn Fn(&str) -> bool) -> crate::Result<Self> {
        Self::build(&self.config, self.adapter.clone(), self.parameters.clone(), trainable)
    }

    /// The same model, including its adapter, on other parameters of the same names and shapes; all of them are
    /// trainable.
    ///
    /// # Errors
    /// As [`Transformer::from_parameters`].
    pub(crate) fn on(&self, parameters: Parameters) -> crate::Result<Self> {
        Self::build(&self.config, self.adapter.clone(), parameters, &|_| true)
    }

    /// The same model on the same weights without autograd: nothing is recorded or kept.
    ///
    /// # Errors
    /// As [`Transformer::from_parameters`].
    pub fn without_gradients(&self) -> crate::Result<Self> {
        self.with_trainable(&|_| false)
    }

    fn build(
        config: &ModelConfig,
        adapter: Option<Arc<AdapterSpec>>,
        parameters: Parameters,
        trainable: &dyn Fn(&str) -> bool,
    ) -> crate::Result<Self> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let layers = Layers::adapted(config, adapter.as_deref()).try_map(&mut |spec| {
            let value = parameters.value(&spec.name)?;
            if value.dims() != spec.shape {
                return Err(Error::ParameterShape {
                    name: spec.name.clone(),
                    found: value.dims().to_vec(),
                    wanted: spec.shape.clone(),
                });
            }
            let is_learned = trainable(&spec.name) && value.dtype() != DType::U8;
            Ok(if is_learned { parameters.get(&spec.name)?.as_tensor().clone() } else { value })
        })?;
        let token = &layers.embedding.token;
        // A frozen table may be held in fewer bits than the computation's dtype.
        let is_narrow = matches!(token.dtype(), DType::BF16 | DType::U8) && token.device().is_cpu();
        let dtype = if is_narrow { DType::F32 } else { token.dtype() };
        let table = |kind: &LayerKind| {
            kind.rope.as_ref().map(|rope| Rotary::new(config, rope, dtype, token.device())).transpose()
        };
        let rotary = layers.kinds.iter().map(table).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), adapter, parameters, layers, rotary })
    }

    /// The model's adapter, if it has one that isn't merged.
    pub fn adapter(&self) -> Option<&AdapterSpec> {
        self.adapter.as_deref()
    }

    /// Every parameter, including an adapter's, in forward order.
    pub fn specs(&self) -> Vec<ParameterSpec> {
        adapted_specs(&self.config, self.adapter())
    }

    /// The model's config.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's layers with their tensors.
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

    /// Computes the hidden states that the head reads from token ids.
    ///
    /// # Shape
    /// `[b, t]` ids to `[b, t, d]`.
    ///
    /// # Gradient
    /// For every trainable parameter except the head's.
    ///
    /// # Errors
    /// Returns an error if an id is outside the vocabulary, or a row (with its cached tokens) is longer than the
    /// context.
    pub fn forward(&self, input: &Input, pass: &mut Pass) -> Result<Tensor> {
        let (rows, len) = input.ids.dims2()?;
        let n_seen = pass.cache.as_ref().map_or(0, |cache| cache.n_seen());
        if n_seen + len > self.config.context_len {
            candle_core::bail!(
                "a row of {} tokens is longer than the context of {}",
                n_seen + len,
                self.config.context_len
            );
        }
        if pass.cache.is_some() && self.config.mask == MaskKind::Full {
            candle_core::bail!("a model whose tokens see later tokens can't use a KV cache");
        }
        let positions = match &input.positions {
            Some(positions) => positions.clone(),
            None => Tensor::arange(n_seen as u32, (n_seen + len) as u32, self.device())?
                .unsqueeze(0)?
                .broadcast_as((rows, len))?
                .contiguous()?,
        };
        pass.adapter_dropout = self.adapter.as_ref().map_or(0.0, |adapter| adapter.dropout);
        let contexts = self.contexts(input, &positions, pass)?;
        let places = match (self.config.positions, self.config.pad_id) {
            (Positions::Counted, Some(pad_id)) => counted(input, &positions, pad_id, n_seen)?,
            _ => positions.clone(),
        };
        let mut x = self.layers.embedding.forward(input, &places, pass)?;
        pass.record(Site::Embedding, &x);
        for block in &self.layers.blocks {
            let context = &contexts[block.kind];
            x = match pass.recompute && pass.probe.is_none() && pass.cache.is_none() {
                true => block.recomputed(&x, context, pass)?,
                false => block.forward(&x, context, pass)?,
            };
        }
        x = self.read_out(&x)?;
        pass.record(Site::Hidden, &x);
        Ok(x)
    }

    /// The state that the blocks of each kind share in a pass over `input`.
    fn contexts<'a>(&'a self, input: &Input, positions: &'a Tensor, pass: &Pass) -> Result<Vec<Context<'a>>> {
        let context = |(number, rotary): (usize, &'a Option<Rotary>)| {
            // A windowed layer's cache holds fewer tokens than were read: masks count those held, positions count all.
            let first = self.layers.first_of(number);
            let past = pass.cache.as_ref().map_or(0, |cache| cache.len_of(first));
            let mask = self.mask(input, first, past)?;
            let len = input.ids.dim(1)?;
            let table = self.layers.relative_bias.as_ref();
            let bias = table.map(|table| biases(table, len, past + len, past)).transpose()?;
            let ids = input.ids.clone();
            Ok(Context { ids, mask, rotary: rotary.as_ref().map(|rotary| rotary.tables(positions)), bias })
        };
        self.rotary.iter().enumerate().map(context).collect()
    }

    /// The head's input for a residual stream: its final norm, if the model has one.
    ///
    /// Applied to the stream after an earlier block, it yields the logit lens: the prediction if the model ended there.
    ///
    /// # Shape
    /// `[b, t, d]` to the same.
    ///
    /// # Errors
    /// Returns an error if the width is not the model's.
    pub fn read_out(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.apply(x))
    }

    /// The hidden states that the head reads: for a classifier on the last token or the mean, one vector per row; else
    /// all.
    ///
    /// # Shape
    /// `[b, t, d]` to the same, or to `[b, 1, d]`.
    ///
    /// # Gradient
    /// For the hidden states.
    ///
    /// # Errors
    /// Returns an error if `hidden` doesn't belong to `input`.
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
    /// Returns an error if `hidden` has another width than the model.
    pub fn logits(&self, hidden: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let logits = self.layers.head.logits(hidden, &self.layers.embedding.token, pass)?;
        pass.record(Site::Logits, &logits);
        Ok(logits)
    }

    /// BERT's pooler on the first token's hidden state: `tanh(w h₀ + b)`; `None` for a model without one.
    ///
    /// # Shape
    /// `[b, t, d]` to `[b, d]`.
    ///
    /// # Errors
    /// Returns an error if `hidden` has another width than the model.
    pub fn pooled(&self, hidden: &Tensor) -> Result<Option<Tensor>> {
        self.layers.head.pooled(hidden)
    }

    /// The summed cross-entropy of hidden states ([`Transformer::read_by_head`]) against `targets`, and the number of
    /// targets that count.
    ///
    /// # Shape
    /// `hidden` `[b, t, d]`; `targets` `[b · t]`, a classifier's `[b]`.
    ///
    /// # Errors
    /// Returns an error if a target is outside the vocabulary, or the model has no head.
    pub fn loss(
        &self,
        hidden: &Tensor,
        targets: &[i64],
        options: &CrossEntropyOptions,
        pass: &Pass,
    ) -> Result<Loss> {
        self.layers.head.loss(hidden, &self.layers.embedding.token, targets, options, pass)
    }

    /// Cosines and sines of the rotary angles of each kind of layer, `[context_len, k/2]` each; `None` for a kind that
    /// doesn't rotate.
    pub(crate) fn rotary_tables(&self) -> impl Iterator<Item = Option<(&Tensor, &Tensor)>> {
        self.rotary.iter().map(|rotary| rotary.as_ref().map(Rotary::table))
    }

    /// The learned bias of each head on its scores, for a text of `n` tokens; `None` if the model has none.
    ///
    /// # Shape
    /// `[h, n, n]`.
    ///
    /// # Errors
    /// Returns an error if the device has no room.
    pub fn relative_bias(&self, n: usize) -> Result<Option<Tensor>> {
        self.layers.relative_bias.as_ref().map(|table| biases(table, n, n, 0)).transpose()
    }

    /// The attention mask of layer `layer` when `input` is read after `past` tokens that the layer's cache holds.
    ///
    /// # Errors
    /// Returns an error if the ids are not a matrix.
    pub fn mask(&self, input: &Input, layer: usize, past: usize) -> Result<Mask> {
        let (rows, len) = input.ids.dims2()?;
        let mut mask = match self.config.mask {
            MaskKind::Causal => Mask::causal(),
            MaskKind::Full => Mask::full(),
        };
        if let Some(window) = self.config.layer_kind(layer).window {
            mask = mask.window(window);
        }
        if let Some(padding_mask) = &input.padding_mask {
            mask = mask.padding(rows, past + len, last_of_rows(padding_mask, rows, past + len));
        }
        if let Some(segments) = &input.segments {
            mask = mask.segments(rows, past + len, last_of_rows(segments, rows, past + len));
        }
        Ok(mask.past(past))
    }
}

/// Positions that count the tokens that are not padding, from `pad_id + 1` on; padding has position `pad_id`
/// ([Liu et al. 2019](https://arxiv.org/abs/1907.11692), as in transformers' RoBERTa).
///
/// Positions from the input, or continuing after a cache, are shifted by the same amount.
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
        // A mask that doesn't cover the batch is refused where it is used.
        return values.clone();
    }
    values.chunks_exact(held).flat_map(|row| &row[held - len..]).copied().collect()
}
