//! The trait of models that can be trained and sampled: [`crate::Transformer`], or your own.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use vulpes_ops::{CrossEntropyOptions, Loss, cross_entropy};

use crate::config::Head;
use crate::input::Input;
use crate::parameters::Parameters;
use crate::pass::Pass;
use crate::spec::ParameterSpec;
use crate::transformer::Transformer;

/// A trainable model: parameters by name, and logits for a batch of token ids.
///
/// The trainer does everything else: gradients by shards, the census, clipping, the update, evaluation and checkpoints.
/// A custom model implements the three required methods with the operations of `vulpes_ops` and of candle, which are
/// both differentiable; [`Parameters::tensor`] returns the tensors to compute with, and [`Pass::dropout_at`] dropout
/// masks that don't depend on how a step is split.
pub trait Model: Send + Sync {
    /// The parameters by name.
    fn parameters(&self) -> &Parameters;

    /// The same model on other parameters of the same names and shapes.
    ///
    /// # Errors
    /// Returns an error if the model can't be built from them.
    fn with_parameters(&self, parameters: Parameters) -> crate::Result<Self>
    where
        Self: Sized;

    /// The next-token logits of each position.
    ///
    /// # Shape
    /// `[b, t]` ids to `[b, t, v]`; of a classifier `[b, n_labels]`.
    ///
    /// # Gradient
    /// For every trainable parameter.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    fn predict(&self, input: &Input, pass: &mut Pass) -> Result<Tensor>;

    /// Every parameter: name, shape, initialization and role, which determines weight decay and the use of Muon.
    fn specs(&self) -> Vec<ParameterSpec> {
        self.parameters().specs().to_vec()
    }

    /// The same model on the same parameters, of which only those that `trainable` names get gradients.
    ///
    /// # Errors
    /// As [`Model::with_parameters`].
    fn with_trainable(&self, trainable: &dyn Fn(&str) -> bool) -> crate::Result<Self>
    where
        Self: Sized,
    {
        self.with_parameters(self.parameters().with_trainable(trainable))
    }

    /// The longest row that the model reads, in tokens.
    fn context_len(&self) -> usize {
        usize::MAX
    }

    /// The model as a transformer, if it is one.
    fn as_transformer(&self) -> Option<&Transformer> {
        None
    }

    /// The output head, which determines what the logits are of.
    fn head(&self) -> Head {
        Head::NextToken
    }

    /// The names of parameters in the model's folder, by our names; empty if they are the same.
    fn stored_names(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// The device that the parameters are on.
    fn device(&self) -> Device {
        self.parameters().iter().next().map_or(Device::Cpu, |(_, var)| var.device().clone())
    }

    /// The summed cross-entropy against `targets`, one for each logit vector, and the number of targets that count.
    ///
    /// # Errors
    /// Returns an error if a target is outside the vocabulary, or an operation fails.
    fn loss_on(
        &self,
        input: &Input,
        targets: &[i64],
        options: &CrossEntropyOptions,
        pass: &mut Pass,
    ) -> Result<Loss> {
        cross_entropy(&rows_of(&self.predict(input, pass)?)?, targets, options)
    }

    /// The loss without label smoothing, and the targets that count, each with the most likely class. For the next
    /// token, where only the loss matters, the latter may be omitted.
    ///
    /// # Errors
    /// As [`Model::loss_on`].
    fn evaluate_on(&self, input: &Input, targets: &[i64]) -> Result<(Loss, Vec<(i64, u32)>)> {
        let logits_nv = rows_of(&self.predict(input, &mut Pass::inference())?)?;
        let options = CrossEntropyOptions::default();
        let loss = cross_entropy(&logits_nv, targets, &options)?;
        let likeliest = targets.iter().copied().zip(likeliest(&logits_nv)?);
        Ok((loss, likeliest.filter(|(target, _)| *target != options.ignore_index).collect()))
    }

    /// The vectors of the tokens from which a text's embedding is computed, for the contrastive objective.
    ///
    /// # Shape
    /// `[b, t]` ids to `[b, t, d]`.
    ///
    /// # Errors
    /// Returns an error if the model has none, or an operation fails.
    fn hidden(&self, _input: &Input, _pass: &mut Pass) -> Result<Tensor> {
        candle_core::bail!(
            "the contrastive objective needs text embeddings, and this model has none (implement Model::hidden)"
        )
    }
}

/// Logits as one row for each target.
fn rows_of(logits: &Tensor) -> Result<Tensor> {
    logits.reshape(((), logits.dim(candle_core::D::Minus1)?))
}

/// The most likely class of each row of logits.
fn likeliest(logits_nv: &Tensor) -> Result<Vec<u32>> {
    logits_nv.to_dtype(DType::F32)?.argmax(candle_core::D::Minus1)?.to_vec1()
}

impl Model for Transformer {
    fn specs(&self) -> Vec<ParameterSpec> {
        self.specs()
    }

    fn parameters(&self) -> &Parameters {
        self.parameters()
    }

    fn with_parameters(&self, parameters: Parameters) -> crate::Result<Self> {
        self.on(parameters)
    }

    fn with_trainable(&self, trainable: &dyn Fn(&str) -> bool) -> crate::Result<Self> {
        self.with_trainable(trainable)
    }

    fn as_transformer(&self) -> Option<&Transformer> {
        Some(self)
    }

    fn context_len(&self) -> usize {
        self.config().context_len
    }

    fn head(&self) -> Head {
        self.config().head
    }

    fn device(&self) -> Device {
        self.device().clone()
    }

    fn stored_names(&self) -> BTreeMap<String, String> {
        crate::folder::stored_names(self.config())
    }

    fn hidden(&self, input: &Input, pass: &mut Pass) -> Result<Tensor> {
        self.forward(input, pass)
    }

    fn predict(&self, input: &Input, pass: &mut Pass) -> Result<Tensor> {
        let hidden = self.forward(input, pass)?;
        self.logits(&self.read_by_head(&hidden, input)?, pass)
    }

    fn loss_on(
        &self,
        input: &Input,
        targets: &[i64],
        options: &CrossEntropyOptions,
        pass: &mut Pass,
    ) -> Result<Loss> {
        let hidden = self.forward(input, pass)?;
        self.loss(&self.read_by_head(&hidden, input)?, targets, options, pass)
    }

    fn evaluate_on(&self, input: &Input, targets: &[i64]) -> Result<(Loss, Vec<(i64, u32)>)> {
        let options = CrossEntropyOptions::default();
        let mut pass = Pass::inference();
        let hidden = self.read_by_head(&self.forward(input, &mut pass)?, input)?;
        let loss = self.loss(&hidden, targets, &options, &pass)?;
        let counted: Vec<u32> =
            (0..targets.len() as u32).filter(|at| targets[*at as usize] != options.ignore_index).collect();
        let of_rows = self.head().n_labels().is_some();
        if self.head() == Head::NextToken || counted.is_empty() {
            return Ok((loss, Vec::new()));
        }
        let hidden = if of_rows {
            hidden
        } else {
            // Logits are needed at the masked positions only.
            let (b, t, d) = hidden.dims3()?;
            let index = Tensor::from_slice(&counted, counted.len(), hidden.device())?;
            hidden.reshape((b * t, d))?.index_select(&index, 0)?.unsqueeze(0)?
        };
        let logits = rows_of(&self.logits(&hidden, &mut pass)?)?;
        let likeliest = likeliest(&logits)?;
        let of = |(at, target): (usize, &u32)| {
            let row = if of_rows { *target as usize } else { at };
            (targets[*target as usize], likeliest[row])
        };
        Ok((loss, counted.iter().enumerate().map(of).collect()))
    }
}
